"""Keys on Curve25519 as WhatsApp uses them: one key that agrees on secrets and also signs (XEdDSA)."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: In front of a public key in Signal's messages: its type.
DJB: Final = b"\x05"

_ORDER: Final = 2**252 + 27742317777372353535851937790883648493  # of the base point


class KeyPair:
    """A key pair for X25519, made from an Ed25519 seed, so that the same number can sign."""

    def __init__(self) -> None:
        self._scalar, self._edwards = _from_seed(os.urandom(32))
        self._private = X25519PrivateKey.from_private_bytes(self._scalar)
        self.public = self._private.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """The secret that we share with the owner of this public key."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))

    def sign(self, message: bytes) -> bytes:
        """An XEdDSA signature, to be checked with `public`."""
        nonce, point = _from_seed(os.urandom(32))
        digest = hashlib.sha512(point + self._edwards + message).digest()
        challenge = int.from_bytes(digest, "little")
        secret = int.from_bytes(self._scalar, "little")
        answer = (int.from_bytes(nonce, "little") + challenge * secret) % _ORDER
        signature = bytearray(point + answer.to_bytes(32, "little"))
        signature[63] |= self._edwards[31] & 0x80  # which of the two points the public key means
        return bytes(signature)


def _from_seed(seed: bytes) -> tuple[bytes, bytes]:
    """A number and its multiple of the base point, as Ed25519 makes them from a seed."""
    number = bytearray(hashlib.sha512(seed).digest()[:32])
    number[0] &= 248
    number[31] &= 127
    number[31] |= 64
    point = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return bytes(number), point


def derive(secret: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256."""
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def mac(key: bytes, data: bytes) -> bytes:
    """HMAC with SHA-256."""
    return hmac.new(key, data, hashlib.sha256).digest()
