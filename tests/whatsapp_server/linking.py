"""Linking a client to the account: by a code that the phone scans, or by one that is typed in."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Final

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from tests.whatsapp_server.ciphers import crypt_ctr
from tests.whatsapp_server.curve import KeyPair, derive, mac
from tests.whatsapp_server.faults import Refusal
from tests.whatsapp_server.protobufs import (
    ADVDeviceIdentity,
    ADVSignedDeviceIdentity,
    ADVSignedDeviceIdentityHMAC,
)
from tests.whatsapp_server.stanza import SERVER, Jid, Node

if TYPE_CHECKING:
    from tests.whatsapp_server.connection import Connection
    from tests.whatsapp_server.server import WhatsApp

REFERENCES: Final = 6  # codes that a client may show, one after the other
_SIGNED_BY_ACCOUNT: Final = b"\x06\x00"
_ROUNDS: Final = 2 << 16
_SALT, _IV = 32, 16  # bytes in front of what is encrypted with a typed code


@attrs.define(eq=False)
class _Typing:
    """A client that shows a code to type in."""

    connection: Connection
    wrapped: bytes  # its key, encrypted with the code
    phone: KeyPair = attrs.field(factory=KeyPair)
    theirs: bytes = b""  # its key, once the code is typed in


class Linking:
    """The phone's side and the server's side of it."""

    def __init__(self, whatsapp: WhatsApp) -> None:
        self._whatsapp = whatsapp
        self._showing: Connection | None = None
        self._typing: _Typing | None = None
        self.linked = 0  # how many times

    @property
    def wants_code(self) -> bool:
        """A client waits for the phone to type a code in."""
        return self._typing is not None

    def show_codes(self, connection: Connection) -> None:
        """Give a client that is not linked what it makes its codes of."""
        self._showing = connection
        codes = [Node("ref", {}, f"reference-{n}".encode()) for n in range(REFERENCES)]
        question = {"from": SERVER, "type": "set", "id": "pair-device", "xmlns": "md"}
        connection.send(Node("iq", question, [Node("pair-device", {}, codes)]))

    def scan(self, code: str) -> None:
        """The phone has scanned this."""
        assert self._showing is not None
        _, _, identity, secret, *_ = code.rpartition("#")[2].split(",")
        self._link(self._showing, base64.b64decode(identity), base64.b64decode(secret))

    def ask_for_code(self, connection: Connection, question: Node) -> None:
        """A client wants to be linked by a code, or has what it needs once the code is typed in."""
        said = {each.tag: each.data for each in question.first.children}
        if question.first.attributes["stage"] == "companion_hello":
            if error := self._whatsapp.faults.code_error:
                self._whatsapp.refuse(connection, question, error)
                return
            key = said["link_code_pairing_wrapped_companion_ephemeral_pub"]
            self._typing = _Typing(connection, key)
            reference = Node("link_code_pairing_ref", {}, b"reference")
            answer = Node("link_code_companion_reg", {}, [reference])
            self._whatsapp.answer(connection, question, [answer])
        else:
            self._whatsapp.answer(connection, question)
            self._finish_typing(said)

    def type_code(self, code: str) -> None:
        """The phone's owner has typed this in."""
        typing = self._typing
        assert typing is not None
        code = code.replace("-", "")
        wrapped = typing.wrapped
        key = _from_code(code, wrapped[:_SALT])
        typing.theirs = crypt_ctr(key, wrapped[_SALT : _SALT + _IV], wrapped[_SALT + _IV :])
        salt, iv = os.urandom(_SALT), os.urandom(_IV)
        ours = salt + iv + crypt_ctr(_from_code(code, salt), iv, typing.phone.public)
        notice = {"from": SERVER, "type": "link_code_companion_reg", "id": "typed", "t": _now()}
        parts = [
            Node("link_code_pairing_ref", {}, b"reference"),
            Node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, ours),
            Node("primary_identity_pub", {}, self._whatsapp.phone.keys.identity.public),
        ]
        hello = Node("link_code_companion_reg", {"stage": "primary_hello"}, parts)
        typing.connection.send(Node("notification", notice, [hello]))

    def _finish_typing(self, said: dict[str, bytes]) -> None:
        typing = self._typing
        assert typing is not None
        wrapped, identity = (
            said["link_code_pairing_wrapped_key_bundle"],
            said["companion_identity_public"],
        )
        shared = typing.phone.agree(typing.theirs)
        info = b"link_code_pairing_key_bundle_encryption_key"
        key = derive(shared, wrapped[:32], info, 32)
        bundle = AESGCM(key).decrypt(wrapped[32:44], wrapped[44:], None)
        assert bundle[:32] == identity
        mixed = shared + self._whatsapp.phone.keys.identity.agree(identity) + bundle[64:96]
        self._link(typing.connection, identity, derive(mixed, None, b"adv_secret", 32))

    def _link(self, connection: Connection, identity: bytes, secret: bytes) -> None:
        """Tell the client that it is linked, in words that only the account's phone can have signed."""
        whatsapp, account = self._whatsapp, self._whatsapp.phone.keys.identity
        details = ADVDeviceIdentity(
            rawID=12345, timestamp=int(time.time()), keyIndex=1
        ).SerializeToString()
        signed = ADVSignedDeviceIdentity(
            details=details,
            accountSignatureKey=account.public,
            accountSignature=account.sign(_SIGNED_BY_ACCOUNT + details + identity),
        ).SerializeToString()
        proof = ADVSignedDeviceIdentityHMAC(details=signed, HMAC=mac(secret, signed))
        device = {
            "jid": Jid(f"{whatsapp.phone.number}:{whatsapp.device}@s.whatsapp.net"),
            "lid": whatsapp.device_jid,
        }
        parts = [
            Node("device-identity", {}, proof.SerializeToString()),
            Node("biz", {"name": "A shop"}),
            Node("platform", {"name": "android"}),
            Node("device", {**device}),
        ]
        question = {"from": SERVER, "type": "set", "id": "pair-success", "t": _now()}
        connection.send(Node("iq", question, [Node("pair-success", {}, parts)]))
        self._typing = self._showing = None

    def is_signed(self, connection: Connection) -> None:
        """The client has taken the link: it is to connect again, as the account."""
        self.linked += 1
        self._whatsapp.faults.login = None
        connection.send(Node("stream:error", {"code": "515"}))
        connection.hang_up()

    def unlink(self) -> None:
        """The phone ends the link: told now to a client that is connected, and to others when they come."""
        self._whatsapp.faults.login = Refusal(401)
        self._whatsapp.end_stream("401", conflict="device_removed")


def _from_code(code: str, salt: bytes) -> bytes:
    return PBKDF2HMAC(hashes.SHA256(), 32, salt, _ROUNDS).derive(code.encode())


def _now() -> str:
    return str(int(time.time()))
