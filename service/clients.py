"""Who a request comes from, by address, for what is counted for each client."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

_IPV6_HOME = 64
"""Bits of an IPv6 address that name one customer; the rest is theirs to choose."""


class Clients:
    """``proxies`` are the networks whose word on where a request came from is believed."""

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        self._proxies = [ip_network(network) for network in proxies]

    def of(self, request: web.Request) -> str:
        """The client's address, or its network where it has a whole one (IPv6 /64).

        Of ``X-Forwarded-For`` the last address counts that no proxy of ours has: what stands before
        it anybody may have written.
        """
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        found = _address(request.remote or "")
        while found is not None and forwarded and self._is_proxy(found):
            named = _address(forwarded.pop())
            if named is None:
                break
            found = named
        if isinstance(found, IPv6Address):
            return str(ip_network((found, _IPV6_HOME), strict=False))
        return "unknown" if found is None else str(found)

    def _is_proxy(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._proxies)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.strip().partition("%")[0])
    except ValueError:  # a Unix socket, or nothing that a proxy should write
        return None
    return getattr(found, "ipv4_mapped", None) or found
