"""The protocol between host and container: every frame, and how it is encoded.

Three streams, one module, so that no side can drift:

* stdin of the container: one JSON object a line (`Start` first, then `Prompt`, `Answer`, `Interrupt`, `Close`);
* stdout of the container: frames, each the line ``---PYNCHY_OUTPUT_START---``, one line of JSON and the line
  ``---PYNCHY_OUTPUT_END---``. A marker counts only as a whole line. Everything else on stdout is noise;
* command files: ``<16 hex of time_ns><16 hex random>.json`` in ``/workspace/ipc/commands/``, one JSON object
  ``{"type": NAME, "args": {...}}``, written aside and renamed into place. Each is answered by an `Answer`.

Pure functions over bytes. Nothing is trusted and everything is bounded: whatever the bytes, decoding returns a value
or raises `BadFrame`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, NoReturn, TypeVar, get_args

import attrs

from pynchy_agent.values import Choice, Instance, Items, Kind, Pattern, Text, Whole, Wrong

T = TypeVar("T")

PROTOCOL: Final = 2
START_MARKER: Final = b"---PYNCHY_OUTPUT_START---"
END_MARKER: Final = b"---PYNCHY_OUTPUT_END---"

MAX_LINE: Final = 1 << 20  # bytes of one line of stdin or stdout, marker lines included
MAX_COMMAND: Final = 64 << 10  # bytes of one command file
MAX_DEPTH: Final = 32  # nesting of objects and arrays
MAX_NODES: Final = 20_000  # values in one document

COMMAND_NAME: Final = re.compile(r"[0-9a-f]{32}\.json", re.ASCII)


class BadFrame(ValueError):
    """The other side sent bytes that are not of this protocol: theirs, never ours."""


# --- strict JSON ---------------------------------------------------------------------------------


def loads_strict(data: bytes, *, max_bytes: int = MAX_LINE) -> dict[str, Any]:
    """Decode one JSON object, or raise `BadFrame`.

    Refused: more than ``max_bytes``, a byte order mark, bytes that are not UTF-8, lone surrogates, NUL characters,
    duplicate keys, NaN and infinities, integers beyond 64 bits, more than `MAX_DEPTH` levels, more than `MAX_NODES`
    values, and anything at the top that is not an object. Depth and size are looked at before the parser is.
    """
    if len(data) > max_bytes:
        raise BadFrame(f"{len(data)} bytes, the limit is {max_bytes}")
    _check_shape(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFrame(f"not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_small_int,
            parse_float=_finite,
        )
    except BadFrame:
        raise
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"not JSON: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise BadFrame(f"a JSON {type(value).__name__}, not an object")
    _check_strings(value)
    return value


def _check_shape(data: bytes) -> None:
    """Count depth and values outside strings without recursion, before a recursive parser sees the bytes."""
    depth = nodes = strings = 0
    for match in _TOKENS.finditer(data):
        match match.group()[:1]:
            case b"{" | b"[":
                depth += 1
                nodes += 1
            case b"}" | b"]":
                depth -= 1
            case b",":
                nodes += 1
            case _:
                strings += 1
        if not 0 <= depth <= MAX_DEPTH:
            raise BadFrame(
                f"more than {MAX_DEPTH} levels deep" if depth > 0 else "brackets that do not match"
            )
        if nodes > MAX_NODES or strings > 2 * MAX_NODES:  # a value may have a key
            raise BadFrame(f"more than {MAX_NODES} values")


# The closing quote is optional, so that an unclosed string is one token too: a scan is linear, always.
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],]', re.DOTALL)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadFrame(f"key {key[:40]!r} appears twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadFrame(f"{name} is not a JSON number")


def _small_int(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= (value := int(digits)) < 1 << 63:
        raise BadFrame("an integer beyond 64 bits")
    return value


def _finite(digits: str) -> float:
    value = float(digits[:400])
    if value - value != 0.0:
        raise BadFrame("a number beyond a double")
    return value


def _check_strings(value: Any) -> None:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            if "\0" in item:
                raise BadFrame("a NUL character")
            try:
                item.encode("utf-8")
            except UnicodeEncodeError:
                raise BadFrame("a lone surrogate") from None
        elif isinstance(item, dict):
            todo.extend(item.keys())
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def dumps(value: Mapping[str, Any]) -> bytes:
    """One line of JSON without its newline: ASCII only, so no line separator can hide in it.

    What the other side would refuse is replaced by U+FFFD: NUL characters and lone surrogates, which people and models
    both manage to send.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    if "\\u0000" in text or "\\ud" in text:  # perhaps: a backslash before it may itself be escaped
        text = json.dumps(_clean(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.encode("ascii")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


# --- fields --------------------------------------------------------------------------------------


@attrs.frozen
class _Cut(Kind[str]):
    """A text, of which only the first ``most`` characters are kept."""

    most: int
    expected = "a text"

    def _take(self, value: object) -> str:
        return Text(least=0).take(value)[: self.most]


Ids = Annotated[tuple[str, ...], Items(Text(64, least=0), 1000)]
SessionId = Annotated[
    str,
    Pattern(re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII), "a UUID"),
]


# --- host to container ---------------------------------------------------------------------------


@attrs.frozen
class Image:
    """A picture shown to the model with a prompt: a path under /workspace/media and its type."""

    path: str
    media_type: str


@attrs.frozen
class Prompt:
    """One prompt. ``id`` is a UUID; results name the prompts they answered by it.

    ``script``: run this in a shell first. Only if it exits with 0 is the model asked, and given what it printed; else
    the prompt is answered with no text.
    """

    id: str
    text: str
    images: tuple[Image, ...] = ()
    script: str | None = None


@attrs.frozen
class Compact:
    """Shorten the memory of the conversation now. Named by its id in a `Result` without text, as a prompt is."""

    id: str


@attrs.frozen
class Tool:
    """A tool that is offered, as the model sees it; what it does and who may use it is the host's alone.

    ``schema``: the JSON Schema of its arguments. ``parallel``: calls may run side by side. ``speaks``: people in the
    chat see what it does. ``timeout``: how many seconds a call may take, 0 if that is not special. ``rare``: the
    model needs to be shown no more than its name before it looks for it.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    parallel: bool = False
    speaks: bool = False
    timeout: float = 0.0
    rare: bool = False


#: What a run may have of the web: pages, through the gateway; the model API's own web search.
WEB: Final = ("fetch", "search")


@attrs.frozen
class Start:
    """The first line: what the runner is, whom it works for and, unless it is pre-warmed, the first prompts.

    ``compact_at``: a conversation of more tokens is shortened before it goes on; 0 leaves that to the agent.
    ``cache_hour``: what was read of it is kept at the provider for an hour, instead of minutes.
    ``about`` says it to the model: the system prompt, but for what only the container knows.
    """

    run: str
    group: str
    chat: str
    is_main: bool
    scheduled: bool
    session: str | None
    model: str | None
    tools: tuple[Tool, ...]
    timezone: str
    assistant: str
    token: str
    gateway: str  # a unix socket path, or an http:// URL where an engine cannot pass a socket
    web: Annotated[tuple[str, ...], Items(Choice(WEB))] = ()
    about: str = ""
    prompts: tuple[Prompt, ...] = ()
    compact_at: int = 0
    cache_hour: bool = False
    ended: tuple[str, ...] = ()  # sessions that are over, to be archived
    protocol: int = PROTOCOL


@attrs.frozen
class Answer:
    """What the host did with command ``id``, or why it refused. ``text`` is for the model to read."""

    id: str
    ok: bool
    text: str


@attrs.frozen
class Interrupt:
    """Stop the running turn, keep the session."""


@attrs.frozen
class Close:
    """Finish what is owed, then exit 0. Sticky: said once, it holds until the exit."""


ToContainer = Start | Prompt | Compact | Answer | Interrupt | Close


_LINES: Final[dict[str, Instance[ToContainer]]] = {
    cls.__name__.lower(): Instance.of(cls) for cls in get_args(ToContainer)
}


def encode_line(message: ToContainer) -> bytes:
    """One line for the container's stdin, newline included."""
    return dumps({"type": type(message).__name__.lower(), **attrs.asdict(message)}) + b"\n"


def decode_line(line: bytes) -> ToContainer:
    """Decode one line of stdin (the container's side). The host is trusted, the shape is checked all the same."""
    kind, body = _typed(line, _LINES, max_bytes=64 << 20)
    if kind.cls is Start and body.get("protocol") != PROTOCOL:
        raise BadFrame(f"protocol {body.get('protocol')!r}, this side speaks {PROTOCOL}")
    return _taken(kind, body)


def decode_start(line: bytes) -> Start:
    """Decode the first line, which must be a start."""
    start = decode_line(line)
    if not isinstance(start, Start):
        raise BadFrame(f"the first line is a {type(start).__name__}, not a start")
    return start


def _typed(
    line: bytes, kinds: Mapping[str, Instance[T]], *, max_bytes: int
) -> tuple[Instance[T], dict[str, Any]]:
    """What a line says it is, and the rest of it."""
    body = loads_strict(line, max_bytes=max_bytes)
    name = body.pop("type", None)
    if not isinstance(name, str) or name not in kinds:
        raise BadFrame(f"unknown type {str(name)[:40]!r}")
    return kinds[name], body


def _taken(kind: Kind[T], body: object) -> T:
    try:
        return kind.take(body)
    except Wrong as error:
        raise BadFrame(str(error)) from None


# --- container to host ---------------------------------------------------------------------------


@attrs.frozen
class Ready:
    """The agent is connected and waits for prompts."""


@attrs.frozen
class Accepted:
    """These prompts were taken in. It only stops re-sending; the commit waits for the result."""

    prompts: Ids = ()


@attrs.frozen
class Progress:
    """Something moved. ``timeout`` is how many seconds the tool that began may be silent, 0 if unknown.

    ``session`` is said once it is known, so that a run that dies in its first turn can be resumed.
    """

    what: Annotated[str, _Cut(200)]
    timeout: float = 0.0
    session: SessionId | None = None


@attrs.frozen
class Result:
    """One answer. ``text`` is None when the agent chose to say nothing. ``answered`` names the prompts it covers;
    none of them means the agent spoke on its own (a background job ended). ``cut``: a part of the answer is missing,
    since an output limit ended it."""

    text: str | None
    answered: Ids = ()
    session: SessionId | None = None
    cut: bool = False


@attrs.frozen
class Retrying:
    """The model API failed and the agent tries again by itself."""

    attempt: int
    delay: float
    reason: Annotated[str, _Cut(200)]


@attrs.frozen
class Idle:
    """Nothing is owed: every prompt has been answered and no background work runs."""


#: What an `Error` can be about; the host decides by this word what to do.
ERROR_KINDS: Final = (
    "outage",  # the network, a 5xx, an overloaded API, a stream that was cut
    "rate_limit",
    "credential",  # the API refuses the key or token
    "billing",
    "budget",  # the gateway's own limit on spending
    "policy",  # a setting forbids what was asked: a model, a tool, a host
    "history",  # the API or the agent cannot go on with this conversation
    "context",  # the conversation is too long for the model
    "refusal",  # the model refused
    "output_limit",  # the model reached its output limit before it had said anything that can be sent
    "empty",  # the model said nothing, again and again
    "interrupted",
    "max_turns",
    "agent",  # the runner or the CLI broke, or the cause is unknown
)


@attrs.frozen
class Error:
    """A failure. ``prompts`` it concerns (none: the whole run). ``message`` is for the log and the owner.

    ``status`` is the HTTP status of the model API, and ``retry_at`` the moment (seconds since 1970) at which a limit is
    over, where the agent was told of them. ``text`` is what the model had said to the chat before it failed.
    """

    kind: Annotated[str, Choice(ERROR_KINDS)]
    message: Annotated[str, _Cut(2000)]
    prompts: Ids = ()
    session: SessionId | None = None
    retry_at: float | None = None
    status: Annotated[int, Whole(100, 599)] | None = None
    text: str | None = None


@attrs.frozen
class Command:
    """What a tool asks of the host: a name and its arguments, not yet looked at."""

    name: str
    args: Mapping[str, Any]


Frame = Ready | Accepted | Progress | Result | Retrying | Idle | Error

_FRAMES: Final[dict[str, Instance[Frame]]] = {
    cls.__name__.lower(): Instance.of(cls) for cls in get_args(Frame)
}


def encode_frame(frame: Frame) -> bytes:
    """The three lines of one frame."""
    body = dumps({"type": type(frame).__name__.lower(), **attrs.asdict(frame)})
    return START_MARKER + b"\n" + body + b"\n" + END_MARKER + b"\n"


def decode_frame(line: bytes) -> Frame:
    """Decode the JSON line of a frame. Unknown types and unknown, missing or ill-typed fields raise `BadFrame`."""
    kind, body = _typed(line, _FRAMES, max_bytes=MAX_LINE)
    for name in body.keys() - kind.fields.keys():
        raise BadFrame(f"unknown field {name[:40]!r} in a {kind.cls.__name__.lower()} frame")
    return _taken(kind, body)


class LineBuffer:
    """Bytes in, whole lines out, without their newlines.

    A line of more than ``most`` bytes is a `BadFrame`: there is no way to find the next one in bounded memory worth
    having.
    """

    def __init__(self, most: int) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._most = most

    def feed(self, data: bytes | bytearray) -> None:
        self._buffer += data

    def pop(self) -> bytes | None:
        """The next line, if all of it is there."""
        end = self._buffer.find(b"\n", self._scanned)
        self._scanned = len(self._buffer) if end < 0 else 0
        if max(end, self._scanned) > self._most:
            raise BadFrame(f"a line of more than {self._most} bytes")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


class FrameDecoder:
    """Bytes of stdout in, frames out; any chunking gives the same frames.

    ``feed`` yields what became complete: a frame, or a `BadFrame` *value* for a frame that was garbage (the caller
    decides how many it bears). Lines that are not part of a frame are counted in ``noise``. A line longer than
    `MAX_LINE` raises `BadFrame` from ``feed``.
    """

    def __init__(self) -> None:
        self._lines = LineBuffer(MAX_LINE)
        self._body: bytes | None = None
        self._inside = False
        self.noise = 0

    def feed(self, data: bytes) -> Iterator[Frame | BadFrame]:
        self._lines.feed(data)
        while (line := self._lines.pop()) is not None:
            found = self._line(line.removesuffix(b"\r"))
            if found is not None:
                yield found

    def _line(self, line: bytes) -> Frame | BadFrame | None:
        if line == START_MARKER:
            broken = self._inside
            self._inside, self._body = True, None
            return BadFrame("a frame began before the last one ended") if broken else None
        if not self._inside:
            self.noise += 1
            return None
        if self._body is None and line != END_MARKER:
            self._body = line
            return None
        body, self._inside, self._body = self._body, False, None
        if line != END_MARKER:
            return BadFrame("more than one line between the markers")
        if body is None:
            return BadFrame("nothing between the markers")
        try:
            return decode_frame(body)
        except BadFrame as error:
            return error


# --- commands ------------------------------------------------------------------------------------


def encode_command(command: Command) -> bytes:
    """The content of a command file."""
    return dumps({"type": command.name, "args": dict(command.args)})


def decode_command(data: bytes) -> Command:
    """Decode a command file, or raise `BadFrame`. The arguments are checked by whoever knows the command."""
    body = loads_strict(data, max_bytes=MAX_COMMAND)
    if set(body) != {"type", "args"}:
        raise BadFrame('a command is {"type": NAME, "args": {...}}')
    name, args = body["type"], body["args"]
    if not isinstance(args, dict):
        raise BadFrame("args is not an object")
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 64:
        raise BadFrame("a command's type is an identifier")
    return Command(name=name, args=args)
