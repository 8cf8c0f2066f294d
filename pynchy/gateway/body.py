"""Check the body of a model call.

Pure. The bytes are decoded strictly, once, and what is forwarded is written anew from what was
checked: no reader further on can find something in it that was not seen here.

A body may have 32 MiB, and reading that takes a third of a second. So it is read in steps: the
generators here stop between them, to let whoever runs them look after others.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Any, Final, NoReturn, TypeVar

import attrs

from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.policy import MAX_BODY, Refusal
from pynchy.gateway.prices import permits
from pynchy.limits import GATEWAY
from pynchy.policy.allowance import SERVER_TOOLS

MAX_DEPTH: Final = 100
MAX_VALUES: Final = 100_000
MAX_DIGITS: Final = 64  # of one number
SLICE: Final = 1 << 20  # characters of a text that are written in one go
MAX_OUTPUT: Final = GATEWAY.output


# What is passed on; other keys are left out. They may mean something to a newer API, and what they
# mean was not looked at here (`speed` and `inference_geo`, for two, change the price).
_KEYS: Final = frozenset({
    "cache_control",
    "context_management",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
})  # fmt: skip
# What is refused aloud: it makes the provider reach out, or keep things, for the container.
_REFUSED: Final = ("mcp_servers", "container")

# Tools that run in the container or change nothing outside the model, by the start of their type.
_LOCAL_TOOLS: Final = ("bash_", "computer_", "memory_", "text_editor_", "tool_search_tool_")
WEB_FETCH: Final = "web_fetch"
_SEARCHING: Final = SERVER_TOOLS["web_search"]
_UNMEASURED: Final = (*SERVER_TOOLS["code_execution"], *SERVER_TOOLS["web_fetch"])
# What count_tokens takes of a call.
_COUNTED: Final = ("messages", "model", "system", "thinking", "tool_choice", "tools")

# The most tokens that the API makes of something, by its documentation. A token is at least a byte of
# text, so what is text is bounded by its bytes.
PICTURE: Final = 5_000  # it is scaled down to 2,576 pixels a side and 4,784 tokens
AROUND: Final = 1_024  # what the API adds to every call
TOOLS: Final = 1_024  # and to one with tools
TYPED_TOOL: Final = 2_048  # for a tool that is not described in the body: text_editor has 700
CITED: Final = 4  # times the text, where the API numbers its sentences to cite them
SEARCH: Final = 40_000  # brought by one search at the provider


# What was decoded a moment ago has no circles.
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)

_AT_ONCE: Final = 4096  # values that are written in one go

T = TypeVar("T")
Steps = Generator[None, None, T]


def at_once(steps: Steps[T]) -> T:
    """Take all steps without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


@attrs.frozen
class Contents:
    """The parts of a body besides text that change what the API charges."""

    pictures: int = 0
    opaque: int = 0  # bytes of the body that are pictures and PDFs, and so no text
    unknown: bool = False  # something that only the API can measure, as a PDF
    fetched: bool = (
        False  # something comes that nobody can measure before, as a page that is fetched
    )
    cited: bool = False
    added: int = AROUND  # tokens that the API adds
    searches: int = 0  # at the provider, at most
    passes: int = 1  # over all of it, that the API charges for


@attrs.frozen
class Call:
    """A checked body: the facts for the ledger, and the body to send."""

    model: str
    max_tokens: int
    stream: bool
    contents: Contents
    document: dict[str, Any] = attrs.field(repr=False)
    large: bool = False  # worth writing in steps

    def affording(self, output: int) -> Call:
        """The same call with at most ``output`` tokens of answer."""
        if output >= self.max_tokens:
            return self
        thinking = self.document.get("thinking")
        if isinstance(thinking, dict) and "budget_tokens" in thinking:
            raise Refusal(
                402, "billing_error", "what is left of the budget does not pay for this thinking"
            )
        document = {**self.document, "max_tokens": output}
        return attrs.evolve(self, max_tokens=output, document=document)

    def encode(self) -> Steps[bytes]:
        """The body to send; raises `Refusal` for text that cannot be written."""
        parts: list[bytes] = []
        try:
            if not self.large:
                yield
                return _ENCODER.encode(self.document).encode()
            for text in _written(self.document):
                parts.append(text.encode())
                if len(text) >= SLICE or len(parts) % _AT_ONCE == 0:
                    yield
        except UnicodeEncodeError:
            raise _bad("a lone surrogate") from None
        return b"".join(parts)

    def most_input(self, size: int, *, window: int) -> int:
        """The most tokens of input that ``size`` encoded bytes can be, for a model that reads ``window``:
        the API refuses what is more, and charges nothing for it."""
        held = self.contents
        if held.unknown or held.fetched:
            return window * held.passes
        text = (size - held.opaque) * (CITED if held.cited else 1)
        most = text + held.pictures * PICTURE + held.added + self.brought
        return min(most, window) * held.passes

    @property
    def thinks(self) -> bool:
        """Whether it may write what is paid for and not shown."""
        thinking = self.document.get("thinking")
        off = thinking is None or (
            isinstance(thinking, dict) and thinking.get("type") == "disabled"
        )
        held = self.contents
        return not off or held.passes > 1 or held.fetched or held.searches > 0

    @property
    def brought(self) -> int:
        """What tools of the provider's may add, which nobody can count before."""
        return self.contents.searches * SEARCH

    def counted_input(self, told: int, *, window: int) -> int:
        """The most tokens of input, where the API has counted those that are there already: it says itself
        that it may be a little off."""
        most = told + told // 20 + AROUND + self.brought
        return min(most, window) * self.contents.passes

    def to_count(self) -> Call:
        """What to ask the API, to be told how many tokens this is."""
        document = {key: value for key, value in self.document.items() if key in _COUNTED}
        return attrs.evolve(self, max_tokens=0, stream=False, document=document)


def _written(value: Any) -> Iterator[str]:
    """The same text as `_ENCODER` writes, in pieces of a bounded size: a long text comes in slices."""
    if isinstance(value, dict):
        start = "{"
        for key, item in value.items():
            yield f"{start}{_ENCODER.encode(key)}:"
            yield from _written(item)
            start = ","
        yield "{}" if start == "{" else "}"
    elif isinstance(value, list):
        start = "["
        for item in value:
            yield start
            yield from _written(item)
            start = ","
        yield "[]" if start == "[" else "]"
    elif isinstance(value, str) and len(value) > SLICE:
        yield '"'
        for at in range(0, len(value), SLICE):
            yield _ENCODER.encode(value[at : at + SLICE])[1:-1]
        yield '"'
    else:
        yield _ENCODER.encode(value)


def check(who: RunIdentity, raw: bytes, *, counting: bool, user: str) -> Steps[Call]:
    """Decode and check the body of a call; raises `Refusal`. ``user`` stands for the group."""
    document = yield from decode(raw)
    for key in _REFUSED:
        if key in document:
            raise Refusal(403, "permission_error", f"{key} does not pass")
    document = {key: value for key, value in document.items() if key in _KEYS}
    model = document.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 128:
        raise _bad("model must be a name")
    if not permits(who.models, model):
        words = f"this group may not use {model[:60]!r} (setting models); request_tool asks people for it"
        # Not 403, of which the CLI makes that it could not authenticate, and tries again.
        raise Refusal(400, "invalid_request_error", words, closed=True)
    stream = document.get("stream", False)
    if not isinstance(stream, bool):
        raise _bad("stream must be true or false")
    _check_tools(who, document.get("tools"))
    if document.get("tools"):
        document["tools"] = [_bounded(tool) for tool in document["tools"]]
    messages = document.get("messages")
    if not isinstance(messages, list):
        raise _bad("messages must be a list")
    if not all(isinstance(message, dict) for message in messages):
        raise _bad("a message must be an object")
    said = [document.get("system"), *(message.get("content") for message in messages)]
    contents = _contents(document, said, may_fetch=WEB_FETCH in who.server_tools)
    # The CLI names the account and the session here; the provider needs to tell users apart only.
    if "metadata" in document:
        document["metadata"] = {"user_id": user}
    return Call(
        model,
        0 if counting else _max_tokens(document),
        stream,
        contents,
        document,
        large=len(raw) > SLICE,
    )


def _max_tokens(document: dict[str, Any]) -> int:
    value = document.get("max_tokens")
    if type(value) is not int or not 0 < value <= MAX_OUTPUT:
        raise _bad(f"max_tokens must be from 1 to {MAX_OUTPUT}")
    return value


def _check_tools(who: RunIdentity, tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise _bad("tools must be a list")
    given = tuple(start for family in who.server_tools for start in SERVER_TOOLS.get(family, ()))
    for tool in tools:
        kind = tool.get("type", "custom") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise _bad("a tool must be an object with a type")
        if kind != "custom" and not kind.startswith(_LOCAL_TOOLS + given):
            words = f"this group has no tool {kind[:60]!r} (setting server_tools)"
            raise Refusal(403, "permission_error", words)


def _contents(document: dict[str, Any], said: list[Any], *, may_fetch: bool) -> Contents:
    """What is in a body besides text; refuses what points elsewhere.

    A file id names something at the provider that another group may have put there; a URL makes the
    provider fetch, which is a way out.
    """
    tools = document.get("tools") or []
    typed = [tool["type"] for tool in tools if tool.get("type", "custom") != "custom"]
    searching = [tool for tool in tools if str(tool.get("type", "")).startswith(_SEARCHING)]
    pictures = opaque = 0
    unknown = cited = False
    for block in _blocks(said):
        kind = block.get("type")
        if isinstance(cites := block.get("citations"), dict) and cites.get("enabled") is not False:
            cited = True
        if kind == "document":  # whatever its data says that it is, it is charged by its pages
            source = block.get("source")
            told = source.get("type") if isinstance(source, dict) else None
            unknown |= told not in ("text", "content")
        if kind == "base64" and isinstance(data := block.get("data"), str):
            opaque += len(data)
            is_picture = str(block.get("media_type", "")).startswith("image/")
            pictures += is_picture
            unknown |= not is_picture
        elif kind in ("file", "container_upload") or "file_id" in block:
            raise Refusal(403, "permission_error", "file ids do not pass")
        elif kind == "url" and "url" in block:
            if not may_fetch:
                raise Refusal(403, "permission_error", "content by URL does not pass")
            unknown = True
    return Contents(
        pictures=pictures,
        opaque=opaque,
        unknown=unknown,
        fetched=any(kind.startswith(_UNMEASURED) for kind in typed),
        cited=cited,
        added=AROUND + (TOOLS if tools else 0) + TYPED_TOOL * len(typed),
        searches=sum(tool["max_uses"] for tool in searching),
        passes=2 if _compacts(document.get("context_management")) else 1,
    )


def _blocks(content: Any) -> Iterator[dict[str, Any]]:
    """All objects in a content, at any depth. The input of a tool is the agent's own and not looked into."""
    todo = [content]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            yield item
            todo.extend(value for key, value in item.items() if key != "input")


def _bounded(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as it is passed on. What is reserved for searches is far more than they come to, and the CLI would have
    eight of them, which a small budget never pays for."""
    if not str(tool.get("type", "")).startswith(_SEARCHING):
        return tool
    uses = tool.get("max_uses")
    asked = uses if type(uses) is int and uses > 0 else GATEWAY.searches
    return {**tool, "max_uses": min(asked, GATEWAY.searches)}


def _compacts(management: Any) -> bool:
    """Whether the API may sum up the conversation first, which reads all of it once more."""
    edits = management.get("edits") if isinstance(management, dict) else None
    return isinstance(edits, list) and any(
        isinstance(each, dict) and str(each.get("type", ""))[:8] == "compact_" for each in edits
    )


def counted(answer: bytes) -> int | None:
    """The number in an answer of count_tokens; None if there is none."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    told = found.get("input_tokens") if isinstance(found, dict) else None
    return told if type(told) is int and 0 < told < 1 << 40 else None


def decode(raw: bytes) -> Steps[dict[str, Any]]:
    """One strict JSON object, or a `Refusal`."""
    if len(raw) > MAX_BODY:
        raise Refusal(413, "request_too_large", f"more than {MAX_BODY >> 20} MiB")
    yield from _check_shape(raw)
    try:
        text = raw.decode("utf-8")
        yield
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_int,
            parse_float=_float,
        )
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(value, dict):
        raise _bad("the body is not a JSON object")
    yield
    return value


def _check_shape(raw: bytes) -> Steps[None]:
    """Bound depth and number of values before a recursive parser sees the bytes.

    Without escapes every quote opens or closes a string, so every second piece between quotes is
    outside of them. No regular expression and no loop over characters is as quick as that.
    """
    bare = raw.replace(b"\\\\", b"")
    yield
    bare = bare.replace(b'\\"', b"")
    yield
    if bare.count(b'"') > 2 * MAX_VALUES:
        raise _bad("too many strings")
    outside = b"".join(bare.split(b'"')[::2])
    yield
    if sum(map(outside.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise _bad("too many values")
    yield
    if sum(map(outside.count, (b"]", b"}"))) > MAX_VALUES:
        raise _bad("the body is not JSON")
    yield
    depth = 0
    for bracket in outside.translate(None, _NO_BRACKET):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise _bad(f"more than {MAX_DEPTH} levels deep")


_NO_BRACKET: Final = bytes(set(range(256)) - set(b"[]{}"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("a key appears twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _bad(f"{name} is not a JSON number")


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _bad("a number with too many digits")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MAX_DIGITS:
        raise _bad("a number with too many digits")
    value = float(digits)
    if value - value != 0.0:
        raise _bad("a number beyond a double")
    return value


def _bad(message: str) -> Refusal:
    return Refusal(400, "invalid_request_error", message)
