"""The way to the internet: straight, or through an HTTP proxy.

Pure. The settings alone decide it; nothing of it comes from the environment.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import attrs


@attrs.frozen
class Way:
    """A proxy, if any; certificates to trust instead of the usual ones; hosts that are reached without the proxy."""

    proxy: str = ""
    ca_file: Path | None = None
    no_proxy: tuple[str, ...] = ()

    def proxy_for(self, host: str) -> str | None:
        """The proxy on the way to a host; none to this machine, and to the hosts that are excepted."""
        return self.proxy if self.proxy and not _is_direct(host, self.no_proxy) else None

    def proxy_to(self, base_url: str) -> str | None:
        """The same for the host of an address on the web."""
        return self.proxy_for(urlsplit(base_url).hostname or "")


DIRECT: Final = Way()


class Settings(Protocol):
    """The section ``gateway`` of the settings, as far as it is about the way."""

    @property
    def proxy(self) -> str: ...
    @property
    def ca_file(self) -> Path | None: ...
    @property
    def no_proxy(self) -> tuple[str, ...]: ...


def way_of(settings: Settings) -> Way:
    """The way that the owner has set."""
    return Way(settings.proxy, settings.ca_file, settings.no_proxy)


def _is_direct(host: str, excepted: tuple[str, ...]) -> bool:
    """Whether a host is of this machine or one of the excepted: a name with all below it, an address, a network, *."""
    with suppress(ValueError):
        address = ip_address(host)
        if address.is_loopback:
            return True
        for entry in excepted:
            with suppress(ValueError):
                if address in ip_network(entry, strict=False):
                    return True
    if host == "localhost" or "*" in excepted:
        return True
    names = (entry.removeprefix("*").removeprefix(".").lower() for entry in excepted)
    return any(host == name or host.endswith(f".{name}") for name in names)
