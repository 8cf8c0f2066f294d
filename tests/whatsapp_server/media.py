"""The media host: files, encrypted, by their path."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from typing import Any, Final

import attrs
import h11
import trio

from tests.whatsapp_server.ciphers import decrypt_cbc, encrypt_cbc
from tests.whatsapp_server.curve import derive, mac
from tests.whatsapp_server.faults import Faults
from tests.whatsapp_server.transport import receive, send

HOST: Final = "mmg.whatsapp.net"
_MAC: Final = 10  # bytes of one behind a file
#: What the keys of a file are made for.
KINDS: Final = ("Image", "Video", "Audio", "Document")


@attrs.define(eq=False)
class MediaHost:
    """What phones and the client have left there."""

    _faults: Faults
    _files: dict[str, bytes] = attrs.field(factory=dict)
    asked: int = 0  # requests so far
    hanging: int = 0  # that wait for an answer which does not come

    def put(self, content: bytes, kind: str) -> dict[str, Any]:
        """Leave a file of one of `KINDS`, as a phone does; what its message tells of it."""
        key = os.urandom(32)
        iv, cipher_key, mac_key = _keys(key, kind)
        cipher = encrypt_cbc(cipher_key, iv, content)
        file = cipher + mac(mac_key, iv + cipher)[:_MAC]
        path = self._keep(file)
        return {
            "directPath": path,
            "URL": f"https://{HOST}{path}",
            "mediaKey": key,
            "fileEncSHA256": hashlib.sha256(file).digest(),
            "fileSHA256": hashlib.sha256(content).digest(),
            "fileLength": len(content),
        }

    def read(self, part: Any, kind: str) -> bytes:
        """The file that a part of the client's message tells of."""
        iv, cipher_key, _ = _keys(part.mediaKey, kind)
        return decrypt_cbc(cipher_key, iv, self._files[part.directPath][:-_MAC])

    def _keep(self, file: bytes) -> str:
        path = f"/v/{secrets.token_hex(8)}?x=1"
        self._files[path] = file
        return path

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one connection, until it ends."""
        http = h11.Connection(h11.SERVER)
        while True:
            request, body = await _next(http, stream)
            self.asked += 1
            if self._faults.media == "hangs":
                self.hanging += 1
                try:
                    await trio.sleep_forever()
                finally:
                    self.hanging -= 1
            await self._answer(http, stream, request, body)
            http.start_next_cycle()

    async def _answer(
        self, http: h11.Connection, stream: trio.abc.Stream, request: h11.Request, body: bytes
    ) -> None:
        file = self._response(request, body)
        faults = self._faults
        status = 200 if file is not None else 404
        if faults.media == "refused":
            status, file = faults.media_status, b""
        content = file or b""
        if faults.media == "damaged":
            content = bytes(len(content))
        head = h11.Response(status_code=status, headers=[("Content-Length", str(len(content)))])
        await send(stream, http.send(head) or b"")
        if faults.media == "cut short":
            await send(stream, http.send(h11.Data(content[: len(content) // 2])) or b"")
            raise trio.BrokenResourceError
        await send(stream, http.send(h11.Data(content)) or b"")
        await send(stream, http.send(h11.EndOfMessage()) or b"")

    def _response(self, request: h11.Request, body: bytes) -> bytes | None:
        if request.method == b"POST":
            path = self._keep(body)
            left = {"url": f"https://{HOST}{path}", "direct_path": path, "handle": "h"}
            return json.dumps({**left, "object_id": "o"}).encode()
        return self._files.get(request.target.decode().partition("&hash=")[0])


async def _next(http: h11.Connection, stream: trio.abc.Stream) -> tuple[h11.Request, bytes]:
    request, body = None, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await receive(stream))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return request, body
        else:
            raise trio.BrokenResourceError


def _keys(key: bytes, kind: str) -> tuple[bytes, bytes, bytes]:
    """Start value, key of the cipher and key of the check."""
    found = derive(key, None, f"WhatsApp {kind} Keys".encode(), 112)
    return found[:16], found[16:48], found[48:80]
