"""The WhatsApp channel in the daemon, which runs the bridge process.

The bridge is started when the channel runs and again whenever it ends, after ever longer waits;
what needs a person (not linked, logged out, outdated) is waited for. Messages come with the numbers
of the bridge's journal and come again until they are acknowledged. Nothing is kept here that a crash must
not lose, and the WhatsApp library is never imported here.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, get_args

import attrs
import trio

from pynchy.chat.channel import (
    ChannelEvent,
    ChatSeen,
    Incoming,
    NotConnected,
    SendRefused,
    SendUncertain,
    SetAside,
    State,
    StateChanged,
)
from pynchy.config import itself
from pynchy.config.environ import for_whatsapp
from pynchy.logs import logger
from pynchy.model import DAY, HOUR, MINUTE, SECOND, ChatId, Outgoing
from pynchy.reader_budget import Reader
from pynchy.whatsapp import lines, network
from pynchy.whatsapp.format import to_whatsapp
from pynchy_agent.wire import BadFrame, LineBuffer

STANDS_STILL: Final = "the WhatsApp process stood still; it was ended, and another is started"
COMMAND: Final = tuple(itself.argv("pynchy.whatsapp.bridge"))
BURST: Final = 100  # events that wait for the receiver; then the bridge waits
FIRST_WAIT: Final = 2 * SECOND  # from the end of a bridge to the next …
LAST_WAIT: Final = MINUTE  # … and ever longer up to this
HEALTHY: Final = MINUTE  # connected this long, a bridge has earned a short wait again
GOODBYE: Final = 5 * SECOND  # from the end of its input to the kill
TYPING_AGAIN: Final = 4 * SECOND  # WhatsApp forgets it after a little more
GROUPS_AGAIN: Final = DAY
PULSE: Final = 20 * SECOND  # from one sign of life of the bridge to the next
PULSE_WAIT: Final = 40 * SECOND  # without one, it is ended
PATIENT: Final = (
    20 * SECOND
)  # without a connection, a new bridge is faster than the library's next try
ANSWER_WAIT: Final = 10 * SECOND  # for an answer that the bridge has without the network
GROUPS_WAIT: Final = 20 * SECOND  # for one that WhatsApp has; who asks on a terminal waits for it


@attrs.frozen
class Terms:
    """What the channel has to know of the installation."""

    store: Path
    log: Path
    name: str  # the assistant's
    own_number: bool  # the account is its own: no name in front of what it says
    media_limit: int  # bytes
    transcribe: Callable[[Path], Awaitable[str]]  # the text of a voice note; never fails
    registered: Callable[[], Awaitable[Mapping[ChatId, Path]]]  # chats, each with its media folder
    blameless: Callable[[], bool] = (
        bool  # whether the daemon ends over what no message can have done
    )
    read_receipts: bool = False  # mark what was said as read, once it is answered
    proxy: str = ""  # on the way to WhatsApp
    no_proxy: tuple[str, ...] = ()
    ca_file: Path | None = None  # certificates to trust there
    command: Sequence[str] = COMMAND


class Borrower(Protocol):
    """A client of the control socket that wants the link for itself."""

    def when_gone(self, goodbye: Callable[[], None]) -> None: ...


@attrs.define(eq=False)
class _Answer:
    came: trio.Event = attrs.field(factory=trio.Event)
    line: dict[str, Any] | None = None  # None: the bridge ended first


@attrs.define(eq=False)
class WhatsApp:
    """The WhatsApp `Channel`."""

    _terms: Terms
    _sender: trio.MemorySendChannel[ChannelEvent] = attrs.field(init=False)
    _receiver: trio.MemoryReceiveChannel[ChannelEvent] = attrs.field(init=False)
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)  # while it runs
    number: str = ""  # our own account, once known
    state: StateChanged = attrs.field(factory=lambda: StateChanged("connecting"))
    _bridge: trio.Process | None = None
    _beside: trio.Nursery | None = None  # what goes on for this bridge, besides reading its lines
    _writing: trio.Lock = attrs.field(factory=trio.Lock)
    _reading: trio.Lock = attrs.field(factory=trio.Lock)
    _again: trio.Event = attrs.field(factory=trio.Event)
    _listened: trio.Event = attrs.field(factory=trio.Event)  # somebody takes what comes
    _spared: bool = False
    _silent_since: float | None = None  # the bridge, to which we listen
    _changed_at: float = -math.inf  # the state
    _renewing: bool = False  # a bridge makes room for another at once
    _borrowers: int = 0  # who have the link for themselves
    _running: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # around a bridge
    _ended: trio.Event = attrs.field(factory=trio.Event)  # no bridge runs
    _last_request: int = 0
    _asked: dict[int, _Answer] = attrs.field(factory=dict)
    _typing: dict[ChatId, trio.CancelScope] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[ChannelEvent](BURST)

    @property
    def name(self) -> str:
        return "whatsapp"

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Keep a bridge running, and what belongs to it. Runs until cancelled; the process is gone then."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                nursery.start_soon(network.watch, self.network_is_back, name="network's return")
                task_status.started()
                await self.keep_bridge()
            finally:
                self._nursery = None
        raise AssertionError("unreachable")

    async def receive(self) -> ChannelEvent:
        self._listened.set()
        return await self._receiver.receive()

    async def acknowledge(self, number: int) -> None:
        await self._tell(line="ack", numbers=[number])

    async def reject(self, number: int, reason: str) -> None:
        await self._tell(line="reject", number=number, reason=reason)

    def spare(self) -> None:
        """The daemon ends in good order: a delivery that this cuts off is not counted against its message."""
        self._spared = True

    async def send(self, out: Outgoing) -> None:
        if self.state.state != "connected":
            raise NotConnected
        text = out.text
        if out.kind != "reaction":
            text = text if out.plain else to_whatsapp(text)
            if text and not self._terms.own_number:
                text = f"{self._terms.name}: {text}"
        answer = await self._ask(
            math.inf,  # the sender has a limit for all channels
            line="send",
            message_id=out.message_id,
            chat=out.chat,
            kind=out.kind,
            text=text,
            path=out.path,
            target=out.target,
            target_sender=out.target_sender,
            target_text=out.target_text,
        )
        if answer is None:
            raise SendUncertain("the WhatsApp process ended before it answered")
        reason = answer["reason"]
        match answer["outcome"]:
            case "sent":
                if self._terms.read_receipts:
                    with suppress(NotConnected):
                        await self._tell(line="read", chat=out.chat)
                return
            case "not_connected":
                raise NotConnected
            case "uncertain":
                raise SendUncertain(reason)
            case outcome:
                raise SendRefused(
                    reason,
                    permanent=outcome in ("refused", "never"),
                    hopeless=outcome == "never",
                )

    async def was_sent(self, message_id: str) -> bool | None:
        try:
            answer = await self._ask(ANSWER_WAIT, line="was_sent", message_id=message_id)
        except NotConnected:
            return None
        return None if answer is None else answer["sent"]

    async def set_typing(self, chat: ChatId, on: bool) -> None:
        """Shown again every few seconds, for as long as it is on and no longer."""
        if on == (chat in self._typing):
            return
        if on and self._nursery is not None:
            scope = self._typing[chat] = trio.CancelScope()
            self._nursery.start_soon(self._keep_typing, chat, scope, name=f"typing in {chat}")
        elif not on:
            self._typing.pop(chat).cancel("done")
            await self._show_typing(chat, on=False)

    async def _keep_typing(self, chat: ChatId, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await self._show_typing(chat, on=True)
                await trio.sleep(TYPING_AGAIN)

    async def _show_typing(self, chat: ChatId, *, on: bool) -> None:
        if self.state.state == "connected":
            with suppress(NotConnected):
                await self._tell(line="typing", chat=chat, on=on)

    # --- what others tell the channel

    def registration_changed(self) -> None:
        """Chats were registered or forgotten: the bridge is to know, for it keeps only theirs."""
        if self._nursery is not None:  # or the next bridge is told when it starts
            self._nursery.start_soon(self._tell_chats, name="whatsapp chats")

    async def refresh_groups(self) -> Sequence[ChatSeen]:
        """The groups that the account is in. They are told as `ChatSeen` too."""
        if self.state.state != "connected":
            await trio.lowlevel.checkpoint()
            raise NotConnected
        answer = await self._ask(GROUPS_WAIT, line="groups")
        if answer is None or answer["groups"] is None:
            raise NotConnected
        return [ChatSeen(ChatId(chat), str(name)) for chat, name in answer["groups"]]

    def start_again(self) -> None:
        """Wait no longer: the account was linked, or somebody thinks that it is time."""
        self._again.set()

    def network_is_back(self) -> None:
        """Try now, if we wait for the network. The library's own next try may be a minute away, too."""
        if self.state.state != "disconnected":
            return
        if self._bridge is None:
            self.start_again()
        elif trio.current_time() - self._changed_at > PATIENT:
            self._renewing = True
            self._running.cancel("the network is back")

    @property
    def ops(self) -> Mapping[str, Callable[..., Awaitable[object]]]:
        """For clients of the control socket."""
        return {"whatsapp.start": self._op_start, "whatsapp.lend": self._op_lend}

    async def _op_lend(self, client: Borrower, *, force: bool = False) -> object:
        """What it is connected as. Where it is not, or with ``force``, leave the link to the client
        instead, for as long as it stays, and connect again then."""
        if self.state.state == "connected" and not force:
            await trio.lowlevel.checkpoint()
            return {"number": self.number}
        self._borrowers += 1
        client.when_gone(self._given_back)
        self._running.cancel("the link is lent")
        await self._ended.wait()
        return {"number": ""}

    def _given_back(self) -> None:
        self._borrowers -= 1
        if not self._borrowers:
            self.start_again()

    async def _op_start(self, client: object) -> object:
        """Connect now, if it is not connected."""
        await trio.lowlevel.checkpoint()
        self.start_again()
        return {"state": self.state.state}

    async def _tell_chats(self) -> None:
        with suppress(NotConnected):
            await self._tell(line="chats", chats=await self._chats())

    async def _chats(self) -> dict[str, str]:
        registered = await self._terms.registered()
        return {chat: str(folder) for chat, folder in registered.items()}

    # --- the process

    async def keep_bridge(self) -> NoReturn:
        """Run one bridge after the other. Runs until cancelled."""
        wait = FIRST_WAIT
        while True:
            await self._until_ours()
            self._again, self._ended = trio.Event(), trio.Event()
            began = trio.current_time()
            self._running = trio.CancelScope()
            try:
                with self._running:
                    await self._run_bridge()
            except* (lines.BadLine, BadFrame, OSError) as errors:
                words = f"the bridge: {errors.exceptions[0]}"
                await self._change(StateChanged("disconnected", words))
            self._ended.set()
            if self._borrowers or self._renewing:
                self._renewing, wait = False, FIRST_WAIT
                continue
            state = self.state
            if state.state in ("connecting", "connected"):
                state = StateChanged("disconnected", "the WhatsApp process ended")
                await self._change(state)
            pause, wait = pause_after(state.state, wait, lived=trio.current_time() - began)
            when = "when it is linked" if pause == math.inf else f"in {pause:.0f} s"
            logger.info("whatsapp: {}; next start {}", state.state, when)
            with trio.move_on_after(pause):
                await self._again.wait()
                wait = FIRST_WAIT

    async def _until_ours(self) -> None:
        while self._borrowers:
            await self._change(StateChanged("disconnected", "an account is being linked"))
            self._again = trio.Event()
            await self._again.wait()

    async def _run_bridge(self) -> None:
        terms = self._terms
        pipes: list[trio.abc.AsyncResource | None] = []
        try:
            async with trio.open_nursery() as nursery:
                process = await nursery.start(
                    partial(
                        trio.run_process,
                        [*terms.command, str(terms.store), "--log", str(terms.log)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        check=False,  # a bridge that ends is started again, whatever its exit code
                        env=for_whatsapp(
                            os.environ,
                            proxy=terms.proxy,
                            ca_file=terms.ca_file,
                            no_proxy=terms.no_proxy,
                        ),
                        start_new_session=True,  # a Ctrl-C in the terminal is the daemon's, which says goodbye
                        deliver_cancel=self._end,
                    ),
                    name="whatsapp bridge's process",
                )
                self._bridge, self._beside = process, nursery
                pipes += [process.stdin, process.stdout]
                await self._tell(
                    line="start",
                    name=terms.name,
                    chats=await self._chats(),
                    media_limit=terms.media_limit,
                    shared=not terms.own_number,
                )
                nursery.start_soon(self._ask_for_groups)
                nursery.start_soon(self._say_ready)
                nursery.start_soon(self._feel_pulse, process)
                await self._read(process.stdout)
                nursery.cancel_scope.cancel("the bridge ended")
        except* NotConnected:
            pass  # it ended before it was told anything
        finally:
            self._let_go()
            for pipe in pipes:
                if pipe is not None:
                    await trio.aclose_forcefully(pipe)

    def _let_go(self) -> None:
        """Tell the bridge nothing more, and wait for none of its answers."""
        self._bridge = self._beside = None
        for answer in self._asked.values():
            answer.came.set()

    async def _end(self, process: trio.Process) -> None:
        """Close its input, give it a moment to finish, and kill it in any case."""
        self._let_go()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with trio.move_on_after(GOODBYE):
                if self._in_order():
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        async with self._writing:
                            await process.stdin.send_all(lines.encode({"line": "bye"}))
                await process.stdin.aclose()
                # Its last words would otherwise fill the pipe, and it would wait for us.
                while await self._receive(process.stdout):
                    pass
                await process.wait()
        finally:
            process.kill()

    def _in_order(self) -> bool:
        """Whether a bridge that ends now ends over what no message can have done."""
        return bool(self._spared or self._borrowers or self._renewing or self._terms.blameless())

    async def _say_ready(self) -> None:
        """Let messages come, once somebody receives them: from then on a delivery counts."""
        await self._listened.wait()
        with suppress(NotConnected):
            await self._tell(line="ready")

    async def _feel_pulse(self, process: trio.Process) -> None:
        """End a bridge that stands still: there is no other sign that nothing comes any more."""
        while True:
            await trio.sleep(PULSE)
            with suppress(NotConnected):
                answer = await self._ask(PULSE_WAIT, line="pulse")
                since = self._silent_since
                if answer is None and since and trio.current_time() - since >= PULSE_WAIT:
                    logger.warning("whatsapp: the bridge stands still, and is ended")
                    process.kill()
                    await self._change(StateChanged("disconnected", STANDS_STILL))

    async def _ask_for_groups(self) -> None:
        while True:
            await trio.sleep(GROUPS_AGAIN)
            with suppress(NotConnected):
                await self.refresh_groups()

    async def _read(self, stream: trio.abc.ReceiveStream) -> None:
        buffer, reader = LineBuffer(lines.LONGEST), Reader("the bridge")
        while chunk := await self._receive(stream):
            await reader.took(len(chunk), chunk.count(b"\n"))
            buffer.feed(chunk)
            while (raw := buffer.pop()) is not None:
                await reader.worked(len(raw))
                await self._hear(lines.decode(raw))

    async def _receive(self, stream: trio.abc.ReceiveStream) -> bytes:
        async with self._reading:  # at the end its last words are read by another task
            self._silent_since = trio.current_time()
            try:
                return bytes(await stream.receive_some(65536))
            finally:
                self._silent_since = None

    async def _hear(self, line: dict[str, Any]) -> None:
        try:
            event = await self._understand(line)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise lines.BadLine(f"{type(error).__name__}: {error}") from None
        if event is not None:
            await self._sender.send(event)

    async def _understand(self, line: dict[str, Any]) -> ChannelEvent | None:
        """What a line is for the receiver; None for one that is ours alone."""
        match line.get("line"):
            case "message":
                number = int(line["number"])
                try:
                    return Incoming(lines.message_in(line["message"]), number)
                except lines.BadLine as error:  # one message's trouble: the bridge has it still
                    with suppress(NotConnected):
                        await self.reject(number, str(error))
            case "aside":
                chat, who, reason = (str(line[key]) for key in ("chat", "who", "reason"))
                return SetAside(ChatId(chat), who, reason, int(line["number"]))
            case "chat":
                return ChatSeen(ChatId(str(line["chat"])), str(line["name"]))
            case "state" if line.get("state") in get_args(State):
                await self._change(StateChanged(line["state"], str(line.get("detail", ""))))
            case "me":
                self.number = str(line["number"])
            case "transcribe" if self._beside is not None:
                number, chat, file = int(line["number"]), ChatId(line["chat"]), str(line["file"])
                name = f"a voice note in {chat}"
                self._beside.start_soon(self._transcribe, number, chat, file, name=name)
            case "answer":
                if answer := self._asked.get(int(line["request"])):
                    answer.line = line
                    answer.came.set()
            case other:
                raise lines.BadLine(f"{other!r} is no line of a bridge")
        return None

    async def _transcribe(self, number: int, chat: ChatId, file: str) -> None:
        folder = (await self._terms.registered()).get(chat)
        if folder is None or Path(file).name != file:
            text = "[voice note: could not be transcribed (its chat is not registered any more)]"
        else:
            text = await self._terms.transcribe(folder / file)
        with suppress(NotConnected):
            await self._tell(line="transcribed", number=number, text=text)

    async def _change(self, change: StateChanged) -> None:
        if change != self.state:
            self.state, self._changed_at = change, trio.current_time()
            await self._sender.send(change)

    async def _ask(self, limit: float, **line: object) -> dict[str, Any] | None:
        """Ask the bridge; None if it ended, or ``limit`` passed, before it answered."""
        self._last_request += 1
        request, answer = self._last_request, _Answer()
        self._asked[request] = answer
        try:
            await self._tell(**line, request=request)
            with trio.move_on_after(limit):
                await answer.came.wait()
        finally:
            del self._asked[request]
        return answer.line

    async def _tell(self, **line: object) -> None:
        bridge = self._bridge
        if bridge is None or bridge.stdin is None:
            await trio.lowlevel.checkpoint()
            raise NotConnected
        async with self._writing:
            # A line cut in two would end the bridge: what is begun is written, or it is gone.
            with trio.CancelScope(shield=True), trio.move_on_after(GOODBYE) as limit:
                try:
                    await bridge.stdin.send_all(lines.encode(line))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise NotConnected from None
            if limit.cancelled_caught:
                bridge.kill()
                raise NotConnected


def pause_after(state: State, wait: float, *, lived: float) -> tuple[float, float]:
    """How long to wait after a bridge that ended in this state and lived so long, and how long the next time.
    For ever, where only a person can change it."""
    wait = FIRST_WAIT if lived > HEALTHY else wait
    longer = min(2 * wait, HOUR if state == "replaced" else LAST_WAIT)
    match state:
        case "logged_out" | "outdated":
            return math.inf, longer
        case "banned":
            return max(wait, HOUR), longer
        case "replaced":  # or the two throw each other out for ever
            return max(wait, 30 * SECOND), longer
        case _:
            return wait, longer
