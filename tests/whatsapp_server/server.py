"""The servers of WhatsApp, on loopback: whoever uses the proxy that they offer finds them under WhatsApp's own names.

Everything runs in the nursery of `open_whatsapp_server`. What people and the server do is done by plain calls that
return at once; what comes of it is waited for with `WhatsApp.until`.
"""

from __future__ import annotations

import itertools
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs
import h11
import trio
from wsproto.utilities import RemoteProtocolError

from tests.whatsapp_server import questions
from tests.whatsapp_server.connection import Connection, Gate
from tests.whatsapp_server.faults import Faults
from tests.whatsapp_server.linking import Linking
from tests.whatsapp_server.media import HOST as MEDIA_HOST
from tests.whatsapp_server.media import MediaHost
from tests.whatsapp_server.noise import Identity
from tests.whatsapp_server.people import Group, Person, Phone, Said
from tests.whatsapp_server.reading import Reading
from tests.whatsapp_server.signal import Bundle, Keys
from tests.whatsapp_server.stanza import SERVER, Codec, Jid, Node
from tests.whatsapp_server.tokens import read_tokens
from tests.whatsapp_server.transport import (
    Ended,
    Frames,
    asked_host,
    certificate,
    reset,
    send,
)

CHAT_HOST: Final = "web.whatsapp.com"
WAIT: Final = 60.0  # seconds until what is waited for counts as never coming
#: Kinds of receipts that say: this has come. The other kinds tell what became of it.
_DELIVERED: Final = ("", "inactive", "sender", "peer_msg", "hist_sync")

#: What a client that is killed in the middle of a word leaves.
_GARBAGE: Final = (h11.RemoteProtocolError, RemoteProtocolError)

#: By whom, in which chat, and with which id a message was sent.
Key = tuple[str, str, str]


@attrs.frozen
class Receipt:
    """What a client says became of a message."""

    at: float  # time.monotonic
    kind: str  # empty: it has come; inactive; read; retry
    chat: str


@attrs.define(eq=False)
class Uploaded:
    """The keys that the client has left for those who write to it first."""

    identity: bytes
    signed_id: int
    signed: bytes
    one_time: list[tuple[int, bytes]]

    @classmethod
    def of(cls, question: Node) -> Uploaded:
        parts = {each.tag: each for each in question.children}
        signed = parts["skey"]
        return cls(
            identity=parts["identity"].data,
            signed_id=int.from_bytes(signed.child("id").data, "big"),
            signed=signed.child("value").data,
            one_time=[
                (int.from_bytes(key.child("id").data, "big"), key.child("value").data)
                for key in parts["list"].children
            ],
        )


@attrs.frozen
class Account:
    """What a server must know for a home that was linked to another one."""

    identity: Identity
    keys: Keys  # of the account's phone
    uploaded: Uploaded


class WhatsApp:
    """All of it: the account, who writes to it, the connections, and what has been seen of the client."""

    def __init__(self, folder: Path, codec: Codec, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.folder = folder
        self.port = 0
        self.identity = Identity()
        self.faults = Faults()
        self.gate = Gate()
        self.media = MediaHost(self.faults)
        self.linking = Linking(self)
        self.device = 7  # the client's number among the account's devices
        self.people: list[Person] = []
        self.groups: dict[str, Group] = {}
        self.phone = Phone(self, "Owner", number="15550001111", hidden="900100200300")
        self.people.append(self.phone)
        self.uploaded: Uploaded | None = None
        self.codec = codec
        self.waiting: dict[Key, Node] = {}  # until the client acknowledges them
        self.held: list[Node] | None = None  # not sent yet, while a list
        self._reading = Reading(self)
        self._numbers = itertools.count(1)
        self._changed = trio.Event()
        # What has been seen, in order.
        self.connections: list[Connection] = []
        self.tries = 0  # connections to the proxy
        self.foreign: list[str] = []  # other hosts that were asked for
        self.said: list[Said] = []
        self.receipts: defaultdict[str, list[Receipt]] = defaultdict(list)  # by the message's id
        self.presence: list[str] = []
        self.typing: list[tuple[str, str]] = []  # chat, and composing or paused
        self.questions: list[tuple[str, str, str]] = []  # namespace, kind, and what is asked

    # --- who there is

    def person(self, name: str, *, number: str = "", hidden: str = "") -> Person:
        """Somebody new, with a number and a hidden id."""
        n = next(self._numbers)
        person = Person(
            self, name, number=number or f"1555222{n:04}", hidden=hidden or f"800111{n:06}"
        )
        self.people.append(person)
        return person

    def group(self, name: str, members: Iterable[Person], *, by_number: bool = False) -> Group:
        """A new group of these and the account."""
        jid = Jid(f"12036300000{next(self._numbers):07}@g.us")
        group = Group(jid, name, [*members, self.phone], by_number)
        self.groups[jid] = group
        return group

    def rename(self, group: Group, who: Person, name: str) -> None:
        """Somebody gives a group another name; the client is told, if it is there."""
        group.name = name
        subject = {"subject": name, "s_t": str(int(time.time())), "s_o": who.hidden_jid}
        notice: dict[str, str | Jid] = {"from": group.jid, "type": "w:gp2", "id": self.new_id()}
        notice |= {"t": str(int(time.time())), "participant": who.hidden_jid}
        self.tell(Node("notification", notice, [Node("subject", {**subject})]))

    def find(self, jid: Jid) -> Person:
        """Whoever has this number or hidden id; somebody new, if nobody does."""
        user = jid.user
        for person in self.people:
            if user in (person.number, person.hidden):
                return person
        kind = {"hidden": user} if jid.server == "lid" else {"number": user}
        return self.person("Somebody", **kind)

    def new_id(self) -> str:
        return f"3A{next(self._numbers):018X}"

    @property
    def device_jid(self) -> Jid:
        """The client's own id."""
        return Jid(f"{self.phone.hidden}:{self.device}@lid")

    @property
    def account(self) -> Account:
        """For another server, which is to know the client that is linked to this one."""
        assert self.uploaded is not None, "no client is linked"
        return Account(self.identity, self.phone.keys, self.uploaded)

    def take_over(self, account: Account) -> None:
        """Know the client that is linked to this account."""
        self.identity = account.identity
        self.phone.keys = account.keys
        self.phone.keys.forget_session()
        self.uploaded = attrs.evolve(account.uploaded, one_time=[*account.uploaded.one_time])

    # --- what happens to the client

    @property
    def connection(self) -> Connection | None:
        """The one that is logged in, the newest of them."""
        return next((each for each in reversed(self.connections) if each.is_open), None)

    @property
    def connected(self) -> bool:
        """A client is logged in and takes messages."""
        return self.connection is not None and self.connection.active

    def drop(self) -> None:
        """End every connection, without a word."""
        for each in self.connections:
            each.drop()

    def end_stream(self, code: str = "", *, conflict: str = "") -> None:
        """End the connection with a stream error: a code (515, 503, 401 …), a conflict (replaced, device_removed)
        or both."""
        attributes: dict[str, str | Jid] = {"code": code} if code else {}
        parts = [Node("conflict", {"type": conflict})] if conflict else None
        if connection := self.connection:
            connection.send(Node("stream:error", attributes, parts))
            connection.hang_up()

    def freeze(self) -> None:
        """Go silent on every connection: they stay, and nothing passes, until `thaw`."""
        self.gate.close()

    def thaw(self) -> None:
        """Let through what waits, and all that comes."""
        self.gate.open()

    def abandon(self) -> None:
        """Go silent for good on the connections that there are, as if the network had forgotten them."""
        self.gate.close()
        self.gate = Gate()
        for each in self.connections:
            each.active = False

    def tell(self, node: Node) -> None:
        """Send any stanza."""
        if connection := self.connection:
            connection.send(node)

    # --- messages to it

    def take_bundle(self) -> Bundle:
        """The keys to begin a session with; a key for one use goes with it, while there are any."""
        keys = self.uploaded
        assert keys is not None, "no client is linked"
        number, key = keys.one_time.pop() if keys.one_time else (None, None)
        return Bundle(keys.identity, keys.signed_id, keys.signed, number, key)

    def take_keys(self, question: Node) -> None:
        """The client has left new keys. After a new link, all sessions begin anew."""
        before, self.uploaded = self.uploaded, Uploaded.of(question)
        if before is None or before.identity != self.uploaded.identity:
            for person in self.people:
                person.keys.forget_session()

    def deliver(self, node: Node) -> None:
        """Keep a message until the client has acknowledged it, and send it if one is there."""
        self.waiting[_key(node)] = node
        if self.held is not None:
            self.held.append(node)
        elif (connection := self.connection) and connection.active:
            connection.send(node)
        self.notify()

    def is_delivered(self, id: str) -> bool:
        """The client has acknowledged this message."""
        return id not in {key[2] for key in self.waiting}

    def deliver_again(self, id: str = "") -> int:
        """Send what waits, or that of this id, once more; how many."""
        found = [node for node in self.waiting.values() if id in ("", node.id)]
        for node in found:
            self.tell(node)
        return len(found)

    def hold(self) -> None:
        """Keep messages back until `release`."""
        self.held = []

    def release(self, order: Callable[[list[Node]], list[Node]] = list) -> None:
        """Send what was kept back, in this order."""
        held, self.held = self.held or [], None
        for node in order(held):
            self.tell(node)

    def _send_waiting(self, connection: Connection) -> None:
        """What came while no client was there, and the word that this was all."""
        count = str(len(self.waiting))
        if self.waiting:
            of_each = {"message": count, "receipt": "0", "notification": "0", "appdata": "0"}
            preview = Node("offline_preview", {"count": count, **of_each})
            connection.send(Node("ib", {"from": SERVER}, [preview]))
        for node in self.waiting.values():
            node.attributes["offline"] = "0"
            connection.send(node)
        connection.send(Node("ib", {"from": SERVER}, [Node("offline", {"count": count})]))

    # --- waiting

    def notify(self) -> None:
        """Something changed that somebody may wait for."""
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, met: Callable[[], object], *, limit: float = WAIT) -> None:
        """Wait until this is so, looking whenever something has happened. If it never is: `AssertionError`, with
        what has been seen."""
        with trio.move_on_after(limit):
            while not met():
                await self._changed.wait()
            return
        raise AssertionError(f"not within {limit:g} s; {self}")

    def __str__(self) -> str:
        """What has been seen lately."""
        said = [(each.chat, each.text, each.error) for each in self.said[-5:]]
        return (
            f"connected: {self.connected}, {self.tries} connections, waiting: {[*self.waiting][:5]}, "
            f"said: {said}, asked: {self.questions[-5:]}, receipts: {[*self.receipts.items()][-5:]}"
        )

    async def until_connected(self, *, limit: float = WAIT) -> None:
        await self.until(lambda: self.connected, limit=limit)

    async def until_connected_anew(self, before: int, *, limit: float = WAIT) -> None:
        """Wait for a client that is connected, on a connection that is not one of the first so many."""
        await self.until(lambda: len(self.connections) > before and self.connected, limit=limit)

    async def hear(self, part: str, *, chat: Jid | None = None, limit: float = WAIT) -> Said:
        """The first message of the client with this in its text, and in this chat: said already, or yet to come."""

        def find() -> Said | None:
            there = (each for each in self.said if chat in (None, each.chat))
            return next((each for each in there if part in each.text), None)

        await self.until(find, limit=limit)
        found = find()
        assert found is not None
        return found

    # --- what the client does

    def on_login(self, connection: Connection) -> None:
        """A client has said who it is."""
        self.connections.append(connection)
        refusal = self.faults.login
        if not connection.payload.HasField("username"):
            self.linking.show_codes(connection)
        elif refusal is not None:
            reason = {"reason": str(refusal.reason), "location": "test", **refusal.more}
            connection.send(Node("failure", {**reason}))
            connection.hang_up()
        else:
            me = {"lid": self.device_jid, "t": str(int(time.time())), "props": "1"}
            connection.send(Node("success", {**me}))
        self.notify()

    def on_node(self, connection: Connection, node: Node) -> None:
        """A stanza of the client."""
        match node.tag:
            case "iq":
                self._on_question(connection, node)
            case "message":
                self._on_message(connection, node)
            case "receipt":
                self._on_receipt(connection, node)
            case "ack" if node.attributes.get("class") == "message":
                self._acknowledged(node.id)
            case "presence":
                self.presence.append(node.type)
            case "chatstate":
                self.typing.append((node.jid("to"), node.first.tag))
        self.notify()

    def _on_question(self, connection: Connection, node: Node) -> None:
        if node.type == "result":
            if node.first.tag == "pair-device-sign":
                self.linking.is_signed(connection)
            return
        about = node.attributes.get("xmlns", "")
        self.questions.append((about, node.type, node.first.tag))
        if about == "passive":
            self.answer(connection, node)
            connection.active = node.first.tag == "active"
            if connection.active:
                self._send_waiting(connection)
        elif about == "md" and node.first.tag == "link_code_companion_reg":
            self.linking.ask_for_code(connection, node)
        else:
            questions.answer(self, connection, node)

    def answer(
        self, connection: Connection, question: Node, content: Sequence[Node] | None = None
    ) -> None:
        """Answer a question of the client."""
        sender = question.jid("to") or SERVER
        result = {"from": sender, "type": "result", "id": question.id}
        connection.send(Node("iq", {**result}, content))

    def refuse(self, connection: Connection, question: Node, code: str) -> None:
        """Answer a question with an error."""
        sender = question.jid("to") or SERVER
        error = Node("error", {"code": code, "text": questions.ERRORS.get(code, "error")})
        result = {"from": sender, "type": "error", "id": question.id}
        connection.send(Node("iq", {**result}, [error]))

    def _on_receipt(self, connection: Connection, node: Node) -> None:
        chat, who = node.jid("to"), node.attributes.get("participant", "")
        listed = [item.id for part in node.children if part.tag == "list" for item in part.children]
        for id in [node.id, *listed]:
            self.receipts[id].append(Receipt(time.monotonic(), node.type, chat))
            if node.type in _DELIVERED and not self.faults.receipts_lost:
                self._acknowledged(id, who)
        ack: dict[str, str | Jid] = {"class": "receipt", "id": node.id, "from": chat or SERVER}
        if node.type:
            ack["type"] = node.type
        connection.send(Node("ack", ack))

    def _acknowledged(self, id: str, who: str = "") -> None:
        for key in [key for key in self.waiting if key[2] == id and who in ("", key[1])]:
            del self.waiting[key]

    def _on_message(self, connection: Connection, node: Node) -> None:
        said = self._reading.read(node)
        self.said.append(said)
        if said.error and not said.repeated and self.faults.asks_again:
            self._reading.ask_again(connection, node)
        faults = self.faults
        match faults.acknowledgement:
            case "given":
                self._acknowledge(connection, node)
            case "late":
                self._nursery.start_soon(self._acknowledge_late, connection, node, faults.lateness)
            case "refused":
                self._acknowledge(connection, node, error=faults.refusal)
            case "connection lost once":
                faults.acknowledgement = "given"
                connection.drop()
            case "connection lost":
                connection.drop()

    def _acknowledge(self, connection: Connection, node: Node, **more: str) -> None:
        now = str(int(time.time()))
        ack = {"class": "message", "from": node.jid("to"), "id": node.id, "t": now, **more}
        connection.send(Node("ack", {**ack}))

    async def _acknowledge_late(self, connection: Connection, node: Node, seconds: float) -> None:
        await trio.sleep(seconds)
        self._acknowledge(connection, node)


def _key(node: Node) -> Key:
    return node.jid("from"), node.attributes.get("participant", ""), node.id


async def _take(whatsapp: WhatsApp, tls: ssl.SSLContext, stream: trio.SocketStream) -> None:
    """One connection to the proxy, until it ends."""
    whatsapp.tries += 1
    whatsapp.notify()
    try:
        async with stream:
            await _serve(whatsapp, tls, stream)
    except (Ended, trio.BrokenResourceError, trio.ClosedResourceError, *_GARBAGE):
        pass
    finally:
        whatsapp.notify()


async def _serve(whatsapp: WhatsApp, tls: ssl.SSLContext, stream: trio.SocketStream) -> None:
    network = whatsapp.faults.network
    if network == "black hole":
        await trio.sleep_forever()
    if network == "reset":
        reset(stream)
        return
    host = await asked_host(stream)
    known = host in (CHAT_HOST, MEDIA_HOST)
    if not known:
        whatsapp.foreign.append(host)
    if network == "proxy refuses" or not known:
        await send(stream, b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        return
    await send(stream, b"HTTP/1.1 200 OK\r\n\r\n")
    if network == "no TLS":
        await trio.sleep_forever()
    encrypted = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
    if host == MEDIA_HOST:
        await whatsapp.media.serve(encrypted)
        return
    frames = Frames(encrypted)
    await frames.open(refuse=network == "not WhatsApp")
    if network == "no hello":
        await trio.sleep_forever()
    await Connection(frames, whatsapp.codec, whatsapp.gate).run(whatsapp)


@asynccontextmanager
async def open_whatsapp_server(
    folder: Path, account: Account | None = None
) -> AsyncIterator[WhatsApp]:
    """Have WhatsApp on loopback for the length of the block. ``folder`` keeps its certificate. With an account of
    another server, the homes that are linked there are linked here too."""
    folder.mkdir(parents=True, exist_ok=True)
    codec = Codec(read_tokens(library_file()))
    tls = certificate(folder)
    async with trio.open_nursery() as nursery:
        whatsapp = WhatsApp(folder, codec, nursery)
        if account is not None:
            whatsapp.take_over(account)
        (listener, *_) = await nursery.start(
            partial(trio.serve_tcp, partial(_take, whatsapp, tls), 0, host="127.0.0.1")
        )
        whatsapp.port = listener.socket.getsockname()[1]
        yield whatsapp
        nursery.cancel_scope.cancel("the server is closed")


def library_file() -> Path:
    """The shared object of the library."""
    spec = find_spec("neonize")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (found,) = Path(spec.submodule_search_locations[0]).glob("neonize-*.*")
    return found
