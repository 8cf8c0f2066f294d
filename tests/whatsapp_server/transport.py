"""From a TCP connection to Noise frames: the proxy's CONNECT, TLS, and a websocket."""

from __future__ import annotations

import ssl
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import h11
import trio
import wsproto
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from wsproto import events

CHUNK: Final = 65536
_HEADER: Final = 4  # bytes at the start of the first frame: "WA" and the version


class Ended(Exception):
    """The other side hung up."""


def certificate(folder: Path) -> ssl.SSLContext:
    """The server's certificate for WhatsApp's names, left as ``ca.pem`` for those who are to trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a WhatsApp for tests")])
    names = [x509.DNSName("web.whatsapp.com"), x509.DNSName("*.whatsapp.net")]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(made.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    context.set_alpn_protocols(["http/1.1"])
    return context


async def receive(stream: trio.abc.ReceiveStream) -> bytes:
    """The next bytes, or `Ended`."""
    try:
        data = bytes(await stream.receive_some(CHUNK))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise Ended from None
    if not data:
        raise Ended
    return data


async def send(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send all of it, or `Ended`."""
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise Ended from None


async def asked_host(stream: trio.SocketStream) -> str:
    """The host that the client asks the proxy for. It waits for an answer then."""
    connection = h11.Connection(h11.SERVER)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event.target.decode().partition(":")[0]
        if event is not h11.NEED_DATA:
            raise Ended
        connection.receive_data(await receive(stream))


def reset(stream: trio.SocketStream) -> None:
    """Have the connection reset, not ended, when it is closed."""
    stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))


class Frames:
    """A websocket with WhatsApp's frames in it: three bytes of length, and that much."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._socket = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._buffer = bytearray()
        self.header = b""

    async def open(self, *, refuse: bool) -> None:
        """Take the client's wish for a websocket, or answer 403."""
        while True:
            for event in self._socket.events():
                if isinstance(event, events.Request):
                    reply: events.Event = (
                        events.RejectConnection(status_code=403)
                        if refuse
                        else events.AcceptConnection()
                    )
                    await send(self._stream, self._socket.send(reply))
                    if refuse:
                        raise Ended
                    return
            self._socket.receive_data(await receive(self._stream))

    async def receive(self) -> bytes:
        """The next frame, or `Ended`."""
        while True:
            if not self.header and len(self._buffer) >= _HEADER:
                self.header = bytes(self._buffer[:_HEADER])
                del self._buffer[:_HEADER]
            end = 3 + int.from_bytes(self._buffer[:3], "big")
            if self.header and len(self._buffer) >= end > 3:
                frame = bytes(self._buffer[3:end])
                del self._buffer[:end]
                return frame
            self._socket.receive_data(await receive(self._stream))
            for event in self._socket.events():
                await self._hear(event)

    async def send(self, frame: bytes) -> None:
        data = len(frame).to_bytes(3, "big") + frame
        await send(self._stream, self._socket.send(events.BytesMessage(data)))

    async def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.BytesMessage):
            self._buffer += event.data
        elif isinstance(event, events.Ping):
            await send(self._stream, self._socket.send(event.response()))
        elif isinstance(event, events.CloseConnection):
            raise Ended
