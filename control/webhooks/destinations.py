"""Where webhooks may go: to public addresses, and to the networks that the configuration allows.

A URL is looked at twice. Where it is named, so that its author hears what is wrong with it; and
once more at the moment of the connection (:meth:`Destinations.socket`), because a name may lead
elsewhere by then. Only the second look keeps anybody out.
"""

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

LONGEST_URL = 2_048
_LOOK_UP_S = 1.0
_LOOK_UPS_AT_ONCE = 4
_NAT64 = ip_network("64:ff9b::/96")
_CLOUDS_OWN = (ip_network("168.63.129.16/32"), ip_network("192.0.0.0/24"))
"""What looks public, and is a cloud's metadata service to those within."""

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


class NotAllowed(OSError):
    """The URL leads to an address that nothing may be posted to."""

    def __init__(self) -> None:
        super().__init__("its address is not a public one (see DRAWBRIDGE_CALLBACK_NETWORKS)")


def parsed(url: str) -> URL:
    """``url`` if a message can be posted there at all. Raises :class:`ValueError` saying why not;
    the text is not repeated, for it may hold a secret."""
    try:
        found = URL(url)
        found.port  # noqa: B018 - raises where it is none
    except ValueError:
        raise ValueError("cannot be read as a URL") from None
    if len(url) > LONGEST_URL:
        raise ValueError(f"is longer than {LONGEST_URL} characters")
    if found.scheme not in ("http", "https") or not found.host:
        raise ValueError("must be a URL that starts with https:// or http:// and names a host")
    if found.user is not None or found.password is not None:
        raise ValueError("must not hold a user or a password")
    return found


class Destinations:
    """``networks`` are those that are allowed beside the public ones, such as ``10.0.0.0/8``.

    Whoever makes one closes it.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ip_network(network) for network in networks]
        # Not the loop's own threads: a name server that does not answer would hold those up too.
        self._threads = ThreadPoolExecutor(_LOOK_UPS_AT_ONCE, thread_name_prefix="names")

    async def aclose(self) -> None:
        """Look up no more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def allows(self, address: str) -> bool:
        """Whether something may be posted to the numeric ``address``."""
        ip = ip_address(address.partition("%")[0])
        return any(ip in network for network in self._networks) or _is_public(_innermost(ip))

    async def check(self, url: str) -> None:
        """Raises :class:`ValueError` where ``url`` is none, or leads to where it must not.

        A name that cannot be looked up in a second may pass: the connection is what counts.
        """
        found = parsed(url)
        addresses: list[AddressInfo] = []
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LOOK_UP_S):
                addresses = await self.look_up(found.host or "", found.port or 0)
        if not all(self.allows(address[4][0]) for address in addresses):
            raise ValueError(NotAllowed().args[0])

    async def look_up(self, host: str, port: int, family: int = 0) -> list[AddressInfo]:
        """The addresses of ``host``. Raises :class:`OSError`."""

        def ask() -> list[Any]:
            try:
                return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            except UnicodeError as error:  # a label that is empty or too long
                raise OSError(f"no name of a host: {type(error).__name__}") from None

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def socket(self, address: AddressInfo) -> socket.socket:
        """A socket that is about to be connected to ``address``, which was just looked up. Raises
        :class:`NotAllowed`."""
        family, kind, protocol, _, where = address
        if not self.allows(where[0]):
            raise NotAllowed
        return socket.socket(family, kind, protocol)


class Resolver(AbstractResolver):
    """Looks names up for aiohttp in the threads of :class:`Destinations`."""

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=str(where[0]), port=port, family=of, proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of, _, protocol, _, where in await self._destinations.look_up(host, port, family)
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is held open."""


def _innermost(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(ip, IPv4Address):
        return ip
    tunnelled = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    if tunnelled is None and ip in _NAT64:
        tunnelled = IPv4Address(int(ip) & 0xFFFFFFFF)
    return tunnelled or ip


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    special = ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False)
    return ip.is_global and not special and not any(ip in network for network in _CLOUDS_OWN)
