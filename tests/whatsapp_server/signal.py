"""The Signal protocol as far as it is needed: sessions with the client both ways, and sender keys of its groups.

A person's phone begins a session with the keys that the client has uploaded, and keeps to its first ratchet key, so
that each of its messages can be read like a first one. What the client says is read with any of the sessions that were
begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from tests.whatsapp_server import fields
from tests.whatsapp_server.ciphers import decrypt_cbc, encrypt_cbc
from tests.whatsapp_server.curve import DJB, KeyPair, derive, mac

REGISTRATION: Final = 4242
SIGNED_KEY: Final = 1  # the number of a person's only signed key
_VERSION: Final = b"\x33"
_MAC: Final = 8  # bytes of one
_SIGNATURE: Final = 64


class Unreadable(Exception):
    """No session of this person opens the message."""


class Repeated(Unreadable):
    """The very same was read before."""


@attrs.frozen
class Bundle:
    """What one needs to write to the client first."""

    identity: bytes
    signed_id: int
    signed: bytes
    one_time_id: int | None
    one_time: bytes | None


class _Chain:
    """The keys of the messages in one direction, in any order, each once."""

    def __init__(self, key: bytes) -> None:
        self._key, self._next = key, 0
        self._seeds: dict[int, bytes] = {}

    def seed(self, number: int) -> bytes:
        while self._next <= number:
            self._seeds[self._next] = mac(self._key, b"\x01")
            self._key = mac(self._key, b"\x02")
            self._next += 1
        return self._seeds.pop(number)


class _Session:
    """One that the person has begun."""

    def __init__(self, ours: KeyPair, bundle: Bundle) -> None:
        self.bundle = bundle
        self.ratchet, self._base, self._identity = KeyPair(), KeyPair(), ours
        secret = b"\xff" * 32 + ours.agree(bundle.signed)
        secret += self._base.agree(bundle.identity) + self._base.agree(bundle.signed)
        if bundle.one_time is not None:
            secret += self._base.agree(bundle.one_time)
        root = derive(secret, None, b"WhisperText", 64)[:32]
        keys = derive(self.ratchet.agree(bundle.signed), root, b"WhisperRatchet", 64)
        self.root, self._chain, self._sent = keys[:32], _Chain(keys[32:]), 0

    def encrypt(self, plain: bytes) -> bytes:
        number, self._sent = self._sent, self._sent + 1
        keys = derive(self._chain.seed(number), None, b"WhisperMessageKeys", 80)
        cipher = encrypt_cbc(keys[:32], keys[64:], plain)
        inner = _VERSION + fields.write({1: DJB + self.ratchet.public, 2: number, 3: 0, 4: cipher})
        who = DJB + self._identity.public + DJB + self.bundle.identity
        inner += mac(keys[32:64], who + inner)[:_MAC]
        return _VERSION + fields.write(
            {
                1: self.bundle.one_time_id,
                2: DJB + self._base.public,
                3: DJB + self._identity.public,
                4: inner,
                5: REGISTRATION,
                6: self.bundle.signed_id,
            }
        )


@attrs.define
class _SenderKey:
    """The client's key for what it says in a group."""

    chain: bytes
    iteration: int
    seeds: dict[int, bytes] = attrs.field(factory=dict)

    def seed(self, iteration: int) -> bytes:
        while self.iteration <= iteration:
            self.seeds[self.iteration] = mac(self.chain, b"\x01")
            self.chain = mac(self.chain, b"\x02")
            self.iteration += 1
        return self.seeds.pop(iteration)


class Keys:
    """What a person's phone keeps of its talk with the client."""

    def __init__(self) -> None:
        self.identity, self.signed = KeyPair(), KeyPair()
        self._begun: list[_Session] = []
        self._session: _Session | None = None
        self._chains: dict[bytes, _Chain] = {}  # the client's, by its ratchet keys
        self._groups: dict[tuple[str, int], _SenderKey] = {}
        self._clients: set[bytes] = set()  # identities that the client has had

    @property
    def signature(self) -> bytes:
        """Of the signed key, for whoever writes to this person first."""
        return self.identity.sign(DJB + self.signed.public)

    @property
    def has_session(self) -> bool:
        return self._session is not None

    def begin(self, bundle: Bundle) -> None:
        """Begin a session with the client, and write in it from now on."""
        self._session = _Session(self.identity, bundle)
        self._begun.append(self._session)
        self._clients.add(bundle.identity)

    def forget_session(self) -> None:
        """Begin anew before the next message."""
        self._session = None

    def encrypt(self, plain: bytes) -> bytes:
        assert self._session is not None
        return self._session.encrypt(plain)

    def skip(self, messages: int) -> None:
        """Use up the keys of so many messages that are never sent."""
        for _ in range(messages):
            self.encrypt(b"skipped")

    def decrypt(self, kind: str, cipher: bytes) -> bytes:
        """What the client said to this person alone."""
        if kind == "pkmsg":
            first = fields.read(cipher[1:])
            base, identity = fields.data(first, 2)[1:], fields.data(first, 3)[1:]
            self._clients.add(identity)
            secret = b"\xff" * 32 + self.signed.agree(identity)
            secret += self.identity.agree(base) + self.signed.agree(base)
            root = derive(secret, None, b"WhisperText", 64)[:32]
            return self._open(fields.data(first, 4), [(self.signed, root)])
        return self._open(cipher, [(each.ratchet, each.root) for each in self._begun])

    def _open(self, message: bytes, roots: Sequence[tuple[KeyPair, bytes]]) -> bytes:
        inner = fields.read(message[1:-_MAC])
        ratchet, number = fields.data(inner, 1)[1:], fields.number(inner, 2)
        for chain in self._candidates(ratchet, roots):
            try:
                keys = derive(chain.seed(number), None, b"WhisperMessageKeys", 80)
            except KeyError:
                raise Repeated("it was read before") from None
            if self._is_from_client(keys[32:64], message):
                self._chains[ratchet] = chain
                return decrypt_cbc(keys[:32], keys[64:], fields.data(inner, 4))
        raise Unreadable("no session opens it")

    def _candidates(
        self, ratchet: bytes, roots: Sequence[tuple[KeyPair, bytes]]
    ) -> Iterator[_Chain]:
        if ratchet in self._chains:
            yield self._chains[ratchet]
        else:
            for ours, root in roots:
                yield _Chain(derive(ours.agree(ratchet), root, b"WhisperRatchet", 64)[32:])

    def _is_from_client(self, key: bytes, message: bytes) -> bool:
        ours = DJB + self.identity.public
        return any(
            mac(key, DJB + theirs + ours + message[:-_MAC])[:_MAC] == message[-_MAC:]
            for theirs in self._clients
        )

    def learn_sender_key(self, group: str, distribution: bytes) -> None:
        """Take the client's key for a group."""
        found = fields.read(distribution[1:])
        key = _SenderKey(fields.data(found, 3), fields.number(found, 2))
        self._groups[group, fields.number(found, 1)] = key

    def decrypt_group(self, group: str, cipher: bytes) -> bytes:
        """What the client said to a group."""
        found = fields.read(cipher[1:-_SIGNATURE])
        key = self._groups.get((group, fields.number(found, 1)))
        if key is None:
            raise Unreadable("no sender key for it")
        try:
            seed = key.seed(fields.number(found, 2))
        except KeyError:
            raise Repeated("it was read before") from None
        keys = derive(seed, None, b"WhisperGroup", 48)
        return decrypt_cbc(keys[16:], keys[:16], fields.data(found, 3))
