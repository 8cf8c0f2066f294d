"""The server's side of Noise_XX_25519_AESGCM_SHA256, as WhatsApp frames it. No sockets."""

from __future__ import annotations

import hashlib
import time
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.whatsapp_server.curve import KeyPair, derive
from tests.whatsapp_server.protobufs import CertChain, ClientPayload, HandshakeMessage

_NAME: Final = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
DAY: Final = 86_400


class Identity:
    """What the server proves itself with: a static key, certified by a root through one in between."""

    def __init__(self) -> None:
        self.root, self._between, self.static = KeyPair(), KeyPair(), KeyPair()
        self.certificate = CertChain(
            leaf=_certify(self._between, serial=2, issuer=1, key=self.static.public),
            intermediate=_certify(self.root, serial=1, issuer=0, key=self._between.public),
        ).SerializeToString()


def _certify(
    signer: KeyPair, *, serial: int, issuer: int, key: bytes
) -> CertChain.NoiseCertificate:
    now = int(time.time())
    details = CertChain.NoiseCertificate.Details(
        serial=serial, issuerSerial=issuer, key=key, notBefore=now - DAY, notAfter=now + 30 * DAY
    ).SerializeToString()
    made: CertChain.NoiseCertificate = CertChain.NoiseCertificate(
        details=details, signature=signer.sign(details)
    )
    return made


class Handshake:
    """From the client's hello to the two keys of the connection."""

    def __init__(self, identity: Identity, header: bytes) -> None:
        self._identity = identity
        self._ephemeral = KeyPair()
        self._hash = self._salt = _NAME
        self._key, self._count = AESGCM(_NAME), 0
        self._authenticate(header)

    def answer(self, hello: bytes) -> bytes:
        """The server's hello to the client's."""
        theirs = HandshakeMessage.FromString(hello).clientHello.ephemeral
        ours, static = self._ephemeral, self._identity.static
        self._authenticate(theirs)
        self._authenticate(ours.public)
        self._mix(ours.agree(theirs))
        key = self._encrypt(static.public)
        self._mix(static.agree(theirs))
        certificate = self._encrypt(self._identity.certificate)
        answer = HandshakeMessage.ServerHello(
            ephemeral=ours.public, static=key, payload=certificate
        )
        return bytes(HandshakeMessage(serverHello=answer).SerializeToString())

    def finish(self, finish: bytes) -> tuple[ClientPayload, Cipher, Cipher]:
        """Who the client says it is, and the ciphers from it and to it."""
        last = HandshakeMessage.FromString(finish).clientFinish
        self._mix(self._ephemeral.agree(self._decrypt(last.static)))
        payload = ClientPayload.FromString(self._decrypt(last.payload))
        keys = derive(b"", self._salt, b"", 64)
        return payload, Cipher(keys[:32]), Cipher(keys[32:])

    def _authenticate(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix(self, secret: bytes) -> None:
        both = derive(secret, self._salt, b"", 64)
        self._salt, self._key, self._count = both[:32], AESGCM(both[32:]), 0

    def _encrypt(self, plain: bytes) -> bytes:
        cipher = self._key.encrypt(_iv(self._count), plain, self._hash)
        self._count += 1
        self._authenticate(cipher)
        return cipher

    def _decrypt(self, cipher: bytes) -> bytes:
        plain = self._key.decrypt(_iv(self._count), cipher, self._hash)
        self._count += 1
        self._authenticate(cipher)
        return plain


class Cipher:
    """One direction of an established connection. Frames are counted: none may be left out."""

    def __init__(self, key: bytes) -> None:
        self._key, self._count = AESGCM(key), 0

    def encrypt(self, plain: bytes) -> bytes:
        self._count += 1
        return self._key.encrypt(_iv(self._count - 1), plain, None)

    def decrypt(self, cipher: bytes) -> bytes:
        self._count += 1
        return self._key.decrypt(_iv(self._count - 1), cipher, None)


def _iv(count: int) -> bytes:
    return bytes(8) + count.to_bytes(4, "big")
