"""Where a container may connect to."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynchy.gateway.hosts import (
    Destination,
    check_addresses,
    check_destination,
    is_public,
    parse_authority,
    parse_url,
)
from pynchy.gateway.policy import Refusal
from pynchy.policy.allowance import Egress, check_owner, check_pattern, matches

PUBLIC = Egress("public")
X = Destination("x.example.org", 443)


def test_a_name_and_its_port_are_read() -> None:
    assert parse_authority(b"Example.org:443") == Destination("example.org", 443)
    assert parse_authority(b"xn--bcher-kva.example:443").host == "xn--bcher-kva.example"
    assert parse_authority(b"example.org", port=80) == Destination("example.org", 80)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b":443",
        b"localhost:443",
        b"intranet:443",
        b"example.org",
        b"example.org:",
        b"example.org:https",
        b"example.org:-1",
        b"example.org:+443",
        b"example.org: 443",
        b"example.org:4433333",
        b"example.org:0",
        b"example.org:65536",
        b"example.org.:443",
        b".example.org:443",
        b"example..org:443",
        b"user@example.org:443",
        b"user:pass@example.org:443",
        b"example.org#.allowed.org:443",
        b"evil.org\x00.allowed.org:443",
        b"evil.org%00.allowed.org:443",
        b"evil.org\\.allowed.org:443",
        b"evil.org/.allowed.org:443",
        b"evil.org?.allowed.org:443",
        b"-x.example.org:443",
        b"x_y.example.org:443",
        "bücher.example:443".encode(),
        "ex\u0430mple.org:443".encode(),
        "example\u3002org:443".encode(),
        b"127.0.0.1:443",
        b"127.1:443",
        b"2130706433:443",
        b"0x7f000001:443",
        b"0x7f.1:443",
        b"0177.0.0.1:443",
        b"169.254.169.254:80",
        b"1.2.3.0x4:443",
        b"[::1]:443",
        b"[fe80::1%25eth0]:443",
        b"::1:443",
        b"a" * 64 + b".example.org:443",
        b"a." * 127 + b"example.org:443",
        b"example.org:443\n",
    ],
)
def test_what_is_no_plain_name_is_refused(text: bytes) -> None:  # threat N4
    with pytest.raises(Refusal):
        parse_authority(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[::1]:443",
        b"[2606:2800:220:1::37]",
        b"[fe80::1%25eth0]:443",
        b"93.184.216.34:443",
        b"127.1:443",
    ],
)
def test_an_address_is_refused_as_one(text: bytes) -> None:
    with pytest.raises(Refusal, match="an address does not pass: name the host instead"):
        parse_authority(text)


@given(st.text("aZ09.-:[]@%#/\\\0_ é", max_size=30))
def test_a_parsed_name_is_in_one_form_only(text: str) -> None:
    try:
        to = parse_authority(text.encode())
    except Refusal:
        return
    assert to.host == to.host.lower()
    assert text.lower().startswith(f"{to.host}:")
    assert to.host.encode("idna").decode() == to.host
    with pytest.raises(ValueError, match="address"):
        ipaddress.ip_address(to.host)


def test_a_url_is_read() -> None:
    assert parse_url(b"http://example.org") == (Destination("example.org", 80), b"/")
    assert parse_url(b"HTTP://Example.org:8080/a?b=c") == (
        Destination("example.org", 8080),
        b"/a?b=c",
    )


@pytest.mark.parametrize(
    "target",
    [
        b"https://example.org/",
        b"ftp://example.org/",
        b"http:/example.org/",
        b"http:///x",
        b"http://user@example.org/",
        b"http://example.org#.allowed.org/",
        b"http://example.org/#fragment",
        b"http://example.org?x",
        b"http://example.org/ x",
        b"http://169.254.169.254/latest/meta-data/",
        b"http://[::ffff:169.254.169.254]/",
        b"*",
        b"example.org",
    ],
)
def test_what_is_no_plain_url_is_refused(target: bytes) -> None:  # threat N4
    with pytest.raises(Refusal):
        parse_url(target)


def allowed(egress: Egress, to: Destination) -> bool:
    try:
        check_destination(egress, to)
    except Refusal as refusal:
        assert refusal.status == 403  # both outcomes are meant
        return False
    return True


def test_the_three_kinds_of_egress() -> None:
    listed = Egress("allowlist", ("x.example.org",))
    assert [allowed(e, X) for e in (Egress("none"), listed, PUBLIC)] == [False, True, True]
    other = Destination("y.example.org", 443)
    assert [allowed(e, other) for e in (Egress("none"), listed, PUBLIC)] == [False, False, True]


def test_an_empty_list_lets_nothing_through() -> None:  # threat N6
    assert not allowed(Egress("allowlist", ()), X)


def test_an_unknown_setting_lets_nothing_through() -> None:
    # invariant 161
    assert not allowed(Egress("Public"), X)
    assert not allowed(Egress(""), X)


def test_only_open_ports() -> None:
    assert not allowed(PUBLIC, Destination("x.example.org", 22))
    assert not allowed(PUBLIC, Destination("x.example.org", 25))
    assert allowed(Egress("public", ports=(22,)), Destination("x.example.org", 22))


def test_the_model_is_reached_through_the_gateway_only() -> None:  # threat N3
    everything = Egress("allowlist", ("api.anthropic.com", "*.anthropic.com"))
    for egress in (PUBLIC, everything):
        assert not allowed(egress, Destination("api.anthropic.com", 443))
    assert not allowed(
        Egress("public", denied=("litellm.example.org",)), Destination("litellm.example.org", 443)
    )


@pytest.mark.parametrize(
    ("host", "pattern", "fits"),
    [
        ("github.com", "github.com", True),
        ("gist.github.com", "github.com", False),
        ("gist.github.com", "*.github.com", True),
        ("github.com", "*.github.com", False),
        ("a.b.github.com", "*.github.com", True),
        ("evilgithub.com", "*.github.com", False),
        ("github.com.evil.org", "github.com", False),
        ("github.com", "GitHub.com", True),
        ("github.com", "*", False),
        ("github.com", "*.com.", False),
        ("github.com", "", False),
    ],
)
def test_patterns(host: str, pattern: str, fits: bool) -> None:  # threat N4
    assert matches(host, (pattern,)) is fits


def test_a_pattern_is_kept_as_it_is_compared() -> None:
    assert check_pattern("*.Bücher.example") == "*.xn--bcher-kva.example"
    for wrong in (
        "*",
        "*.",
        "",
        "a.*.org",
        "**.org",
        "http://x.org",
        "x.org/",
        "1.2.3.4",
        "localhost",
    ):
        with pytest.raises(ValueError, match="host name"):
            check_pattern(wrong)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 # an address to refuse
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "not an address",
        "",
    ],
)
def test_closed_addresses(address: str) -> None:  # threat N4
    assert not is_public(address)
    with pytest.raises(Refusal):
        check_addresses(X, ["93.184.216.34", address])


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)
    assert check_addresses(X, [address]) == [address]


@given(st.ip_addresses(v=4))
@example(ipaddress.ip_address("169.254.169.254"))
def test_wrapping_an_address_opens_nothing(inner: ipaddress.IPv4Address) -> None:
    public = is_public(str(inner))
    assert is_public(f"::ffff:{inner}") is public
    nat64 = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(inner))
    assert is_public(str(nat64)) is public
    if not inner.is_global:
        assert not public


def test_a_name_without_addresses_is_not_known() -> None:
    with pytest.raises(Refusal) as raised:
        check_addresses(X, [])
    assert raised.value.status == 502


@pytest.mark.parametrize(
    "pattern",
    [
        "*.github.io",
        "*.co.uk",
        "*.com.au",
        "*.vercel.app",
        "*.s3.amazonaws.com",
        "*.kawasaki.jp",
        "*.xn--55qx5d.cn",
    ],
)
def test_a_pattern_of_everybodys_hosts_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="name one host"):
        check_owner(check_pattern(pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        "github.io",
        "*.me.github.io",
        "*.example.co.uk",
        "*.github.com",
        "co.uk",
        "*.city.kawasaki.jp",
    ],
)
def test_a_pattern_of_one_owners_hosts_passes(pattern: str) -> None:
    check_owner(check_pattern(pattern))
