"""Decide where a container may connect, by host name and by resolved address.

Pure. A name is compared as it was parsed, never as it was written; then it is looked up once, and
every address that comes of it must be public. Who calls goes to one of exactly those addresses.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

from pynchy.gateway.policy import Refusal
from pynchy.policy.allowance import HOST_NAME, Egress, matches

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The model is talked to through /v1/messages above, where a container's own key does not pass.
MODEL_HOSTS: Final = ("api.anthropic.com",)


@attrs.frozen
class Destination:
    """A parsed destination; the host is an A-label in lower case."""

    host: str
    port: int


def parse_authority(text: bytes, *, port: int | None = None) -> Destination:
    """Read ``host:port`` (or ``host``, where ``port`` says what that means); raises `Refusal`.

    Only plain names pass: no address in any notation, no user, no zone, no trailing dot, nothing
    that is not ASCII. Letters alone may differ in case.
    """
    host, colon, digits = text.partition(b":")
    try:
        name = host.decode("ascii").lower()
    except UnicodeDecodeError:
        name = ""
    if not HOST_NAME.fullmatch(name):
        if _ADDRESS.fullmatch(text):
            raise _denied("an address does not pass: name the host instead")
        raise _denied("only host names pass, as a name server knows them")
    if colon:
        if not re.fullmatch(rb"[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
            raise _denied("that is not a port")
        port = int(digits)
    if port is None:
        raise _denied("a port is missing")
    return Destination(name, port)


def parse_url(target: bytes) -> tuple[Destination, bytes]:
    """Read an absolute ``http://`` target into its destination and its path; raises `Refusal`."""
    match = _URL.fullmatch(target)
    if match is None:
        raise _denied("only http:// passes so; for https use CONNECT")
    return parse_authority(match.group(1), port=80), match.group(2) or b"/"


_URL: Final = re.compile(rb"http://([^/?#]*)((?:/[\x21\x22\x24-\x7e]*)?)", re.IGNORECASE)
_ADDRESS: Final = re.compile(rb"\[[0-9a-z:.%]+\](:[0-9]*)?|[0-9.]+(:[0-9]*)?", re.IGNORECASE)


def check_destination(egress: Egress, to: Destination) -> None:
    """Check by name that a group may connect there; raises `Refusal`."""
    if egress.kind == "none":
        raise _denied("this group's egress is none: it reaches no host; its owner can change that")
    if to.port not in egress.ports:
        ports = " and ".join(map(str, sorted(egress.ports)))
        raise _denied(f"port {to.port} is not open to this group; open are {ports or 'none'}")
    if matches(to.host, MODEL_HOSTS) or matches(to.host, egress.denied):
        raise _denied(f"{to.host} is closed to containers")
    if egress.kind == "allowlist" and not matches(to.host, egress.patterns):
        words = (
            f"{to.host} is not on this group's list of hosts; ask for it with the tool request_host"
        )
        raise _denied(words)
    if egress.kind not in ("allowlist", "public"):
        raise _denied("this group's egress setting is not known")


def check_addresses(to: Destination, addresses: list[str]) -> list[str]:
    """Return the addresses if all are on the public internet; else raise `Refusal`."""
    if not addresses:
        raise Refusal(502, "api_error", f"{to.host} is not known")
    for text in addresses:
        if not is_public(text):
            raise _denied(f"{to.host} is not on the public internet")
    return addresses


_INNER_V4: Final = (
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64: the last four bytes are an IPv4 address
    ipaddress.IPv6Network("::/96"),
)
_CLOSED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
        "fec0::/10",
    )
)


def is_public(text: str) -> bool:
    """Whether an address is of the public internet, whatever it is wrapped in."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif any(address in network for network in _INNER_V4):
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address in network for network in _CLOSED if network.version == address.version):
        return False
    return address.is_global and not (
        address.is_multicast
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_reserved
        or address.is_unspecified
    )


def _denied(message: str) -> Refusal:
    return Refusal(403, "permission_error", message)
