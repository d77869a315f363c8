"""Whose address may see more than states: probes, and operators at the machine itself."""

import ipaddress
from collections.abc import Iterable

_FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip", "via"})
"""Headers of requests that a proxy sends on: the address is the proxy's, and proves nothing."""


class ProbeNetworks:
    """The networks of ``DRAWBRIDGE_HEALTH_NETWORKS``."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def holds(self, remote: str | None, headers: Iterable[str]) -> bool:
        """Whether a request from ``remote``, with headers of these names, comes from one."""
        if not self._networks or any(name.lower() in _FORWARDED for name in headers):
            return False
        try:
            address = ipaddress.ip_address((remote or "").partition("%")[0])
        except ValueError:  # a Unix socket
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
