"""The host that a TLS client names, read from what the real library sends."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.gateway.hello import MAX_HELLO, server_name
from pynchy.gateway.policy import Refusal


def hello(name: str | None, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What Python's ssl sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_is_found(version: ssl.TLSVersion) -> None:
    assert server_name(hello("Example.org", version=version)) == "example.org"


def test_a_hello_in_pieces_is_waited_for() -> None:
    whole = hello("example.org")
    for size in range(len(whole)):
        assert server_name(whole[:size]) is None
    assert server_name(whole + b"more") == "example.org"


def test_a_hello_over_many_records_is_put_together() -> None:
    message = hello("example.org")[5:]
    pieces = [message[at : at + 7] for at in range(0, len(message), 7)]
    records = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)
    assert server_name(records) == "example.org"
    assert server_name(records[:-1]) is None


def refuses(data: bytes) -> bool:
    try:
        server_name(data)
    except Refusal:
        return True
    return False


def test_what_names_no_host_is_refused() -> None:  # threat N5
    assert refuses(hello(None))


def with_extension(whole: bytes, extension: bytes) -> bytes:
    """The hello with one more extension before that of its name."""
    at = whole.index(b"example.org") - 9
    assert whole[at : at + 2] == b"\0\0"
    changed = bytearray(whole[:at] + extension + whole[at:])
    more = len(extension)

    def add(position: int, size: int) -> None:
        value = int.from_bytes(changed[position : position + size]) + more
        changed[position : position + size] = value.to_bytes(size)

    add(3, 2)  # the record
    add(6, 3)  # the message
    session = changed[5 + 38]
    ciphers = 5 + 39 + session
    compressions = ciphers + 2 + int.from_bytes(changed[ciphers : ciphers + 2])
    add(compressions + 1 + changed[compressions], 2)
    return bytes(changed)


def test_two_names_are_refused() -> None:
    whole = hello("example.org")
    at = whole.index(b"example.org") - 9
    assert refuses(with_extension(whole, whole[at : at + 9 + 11]))


def test_a_hello_inside_the_hello_is_refused() -> None:
    # threat N5: a server at many hosts' address takes the name in it, whatever the plain one says
    whole = hello("example.org")
    for kind in (0xFE0D, 0xFFCE):
        with pytest.raises(Refusal, match="hides its host"):
            server_name(with_extension(whole, kind.to_bytes(2) + b"\0\x03xyz"))
    assert server_name(with_extension(whole, b"\x0a\x0a\0\x03xyz")) == "example.org"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x16\x02\x01\x00\x05hello",
        b"\x17\x03\x03\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:  # threat N5
    assert refuses(data)


def test_a_hello_that_never_ends_is_refused() -> None:
    piece = b"\x16\x03\x01\x00\x01\x01"
    assert refuses(piece + b"\x16\x03\x01\x00\x01\x00" * MAX_HELLO)


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, value: int) -> None:
    refuses(noise)
    refuses(b"\x16\x03\x01" + len(noise).to_bytes(2) + noise)
    whole = bytearray(hello("example.org"))
    whole[at % len(whole)] = value
    refuses(bytes(whole))
