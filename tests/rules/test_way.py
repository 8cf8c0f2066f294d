"""Which hosts are reached through the proxy."""

import pytest

from pynchy.gateway.way import DIRECT, Way

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("host", "excepted", "through"),
    [
        ("api.anthropic.com", (), True),
        ("localhost", (), False),
        ("127.0.0.1", (), False),
        ("::1", (), False),
        ("api.anthropic.com", ("*",), False),
        ("example.org", ("example.org",), False),
        ("example.org", (".example.org",), False),
        ("example.org", ("*.example.org",), False),
        ("www.example.org", ("example.org",), False),
        ("www.example.org", (".example.org",), False),
        ("notexample.org", ("example.org",), True),
        ("example.org.evil.net", ("example.org",), True),
        ("10.1.2.3", ("10.0.0.0/8",), False),
        ("10.1.2.3", ("10.1.2.3",), False),
        ("11.1.2.3", ("10.0.0.0/8",), True),
        ("fd00::1", ("10.0.0.0/8", "fd00::/8"), False),
    ],
)
def test_a_host_is_reached_through_the_proxy_unless_it_is_excepted(
    host: str, excepted: tuple[str, ...], through: bool
) -> None:
    way = Way(PROXY, no_proxy=excepted)
    assert way.proxy_for(host) == (PROXY if through else None)
    shown = f"[{host}]" if ":" in host else host
    assert way.proxy_to(f"https://{shown}:8443/v1") == way.proxy_for(host)
    assert DIRECT.proxy_for(host) is None
