"""The built-in offline model: a scripted Messages API in this process, without an account.

It stands where the model API stands, so the real CLI, the real SDK, the tools and the sandbox all
run; only the thinking is missing. It answers deterministically and keeps no state: whatever it says
follows from the request alone. In a message, after an optional ``@Name``, it understands

    echo TEXT         answers TEXT
    use TOOL {json}   calls a tool that the request offers, then reports its result; with a list
                      of objects, so many calls at once
    bash CMD          the same, for the shell
    slow N            streams an answer over N seconds
    long N            answers with N characters
    error STATUS      the API fails with 401, 429, 500, 529 ...
    silent            answers with an <internal> note only
    help              this list

Everything else gets a short friendly echo. `OfflineModel` takes a ``script`` for tests that need
more: it is asked first, and None means "as usual".
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final

import attrs
import trio

from pynchy.gateway.exchange import (
    COUNT_TOKENS,
    Headers,
    UpstreamFailure,
    UpstreamRequest,
    UpstreamResponse,
)

HELP: Final = """I am the offline model: no account, no thinking, everything else is real. Try
  echo TEXT - I repeat it
  use TOOL {json} - I call a tool and report what it said
  bash CMD - I run it in the sandbox
  slow N - an answer that takes N seconds
  long N - N characters
  error 529 - the model API fails
  silent - I answer nobody"""


@attrs.frozen
class Text:
    text: str


@attrs.frozen
class ToolUse:
    name: str
    input: dict[str, Any]


@attrs.frozen
class Reply:
    """What to answer: blocks over ``seconds``, or an error where ``status`` is not 200."""

    blocks: tuple[Text | ToolUse, ...] = ()
    seconds: float = 0.0
    status: int = 200
    message: str = ""
    headers: Headers = ()


@attrs.frozen
class Asked:
    """A request as the model sees it."""

    prompt: str  # the last thing a person said, trigger and markup removed
    results: tuple[str, ...]  # what tools answered since then, where they spoke last
    tools: tuple[str, ...]
    turn: int  # how many messages the request has
    document: dict[str, Any] = attrs.field(repr=False)


Script = Callable[[Asked], Reply | None]


class OfflineModel:
    """The offline model as an `Upstream`."""

    name: Final = "offline"
    free: Final = True
    billed: Final = False

    def __init__(self, script: Script | None = None) -> None:
        self._script = script

    async def prepare(self) -> None:
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def send(
        self, request: UpstreamRequest
    ) -> AsyncIterator[UpstreamResponse | UpstreamFailure]:
        await trio.lowlevel.checkpoint()
        if request.path == COUNT_TOKENS:
            body = json.dumps({"input_tokens": _tokens(request.body)}).encode()
            yield UpstreamResponse(200, _JSON, _Paced([body], 0.0))
            return
        asked = read(request.document)
        reply = (self._script(asked) if self._script is not None else None) or answer(asked)
        if reply.status != 200:
            await trio.sleep(reply.seconds)
            yield UpstreamFailure(reply.status, _JSON + reply.headers, _error(reply))
            return
        message = _message(request, reply)
        if request.document.get("stream") is True:
            chunks = [_event(data) for data in _events(message)]
            yield UpstreamResponse(
                200, _SSE + reply.headers, _Paced(chunks, reply.seconds / len(chunks))
            )
        else:
            body = json.dumps(message).encode()
            yield UpstreamResponse(200, _JSON + reply.headers, _Paced([body], reply.seconds))


_JSON: Final[Headers] = (("content-type", "application/json"), ("request-id", "req_offline"))
_SSE: Final[Headers] = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("request-id", "req_offline"),
)


class _Paced:
    """Chunks, each after a wait."""

    def __init__(self, chunks: list[bytes], wait: float) -> None:
        self._chunks = chunks[::-1]
        self._wait = wait

    def __aiter__(self) -> _Paced:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep(self._wait if self._chunks else 0)
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()


# --- what was asked ------------------------------------------------------------------------------


def read(document: dict[str, Any]) -> Asked:
    """Find the last thing said in a request, whoever wrapped it in what."""
    messages = [entry for entry in _list(document.get("messages")) if isinstance(entry, dict)]
    prompt = ""
    results: list[str] = []
    for entry in reversed(messages):
        role, blocks = entry.get("role"), _blocks(entry.get("content"))
        if role == "assistant":
            break
        if role == "system":
            # A message that came while tools ran arrives so, not as a user's.
            said = "\n".join(_texts(blocks))
            if not prompt and _MIDTURN in said:
                prompt = said.split(_MIDTURN, 1)[1].lstrip(": \n")
        elif role == "user":
            if not prompt:
                # The last one: what was queued or interrupted comes in the same message before it.
                prompt = next(reversed(_typed(blocks)), "")
            results[:0] = [
                _flat(b.get("content")) for b in blocks if b.get("type") == "tool_result"
            ]
    return Asked(
        prompt=_unwrap(prompt),
        results=tuple(results),
        tools=(*_shown(document), *_named(messages)),
        turn=len(messages),
        document=document,
    )


def _shown(document: dict[str, Any]) -> Iterator[str]:
    for tool in _list(document.get("tools")):
        if isinstance(tool, dict) and "name" in tool:
            yield str(tool["name"])


def _named(messages: list[dict[str, Any]]) -> Iterator[str]:
    """The tools of which the CLI shows no more than the names. It takes calls of them all the same."""
    for entry in messages:
        if entry.get("role") == "system":
            for names in _DEFERRED.findall(_flat(entry.get("content"))):
                yield from names.split()


_DEFERRED: Final = re.compile(
    r"deferred tools are now available[^\n]*\n((?:[\w-]+(?:\n|$))+)", re.ASCII
)
_MIDTURN: Final = "The user sent a new message while you were working"
_FENCE: Final = re.compile(r"^=== (\w+) begin ===$(.*?)^=== \1 end ===$", re.DOTALL | re.MULTILINE)
_MESSAGE: Final = re.compile(r"<(message|task)\b([^>]*)>(.*?)</\1>", re.DOTALL)
_NOTICE: Final = re.compile(r"<notice\b[^>]*>(.*?)</notice>", re.DOTALL)
_TEXT: Final = re.compile(r"<text\b[^>]*>(.*?)</text>", re.DOTALL)
_TAGS: Final = re.compile(r"<(quoted|attachment)\b[^>]*?(?:/>|>.*?</\1>)", re.DOTALL)
_TRIGGER: Final = re.compile(r"^\s*@[^\s:,]+[:,]?\s+")


def _unwrap(prompt: str) -> str:
    """The text of the last ``<message>`` that asks for an answer, of the last one if none says so,
    or of the ``<task>``; all of the prompt where there is none."""
    if fences := _FENCE.findall(prompt):
        prompt = fences[-1][1]
    if found := _MESSAGE.findall(prompt):
        asking = [inner for _, attributes, inner in found if 'asks="yes"' in attributes]
        inner = _TAGS.sub("", asking[-1] if asking else found[-1][2])
        text = _TEXT.findall(inner)
        prompt = html.unescape(text[-1] if text else inner)
    elif found := _NOTICE.findall(prompt):
        prompt = html.unescape(found[-1])
    return _TRIGGER.sub("", prompt, count=1).strip()


def _typed(blocks: list[dict[str, Any]]) -> list[str]:
    """What people said, without what the CLI says of itself."""
    return [text for text in _texts(blocks) if not text.lstrip().startswith(_OF_THE_CLI)]


_OF_THE_CLI: Final = ("<system-reminder>", "<local-command-", "<command-")


def _texts(blocks: list[dict[str, Any]]) -> Iterator[str]:
    for block in blocks:
        if block.get("type") == "text" and isinstance(block.get("text"), str):
            yield block["text"]


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in _list(content) if isinstance(block, dict)]


def _flat(content: Any) -> str:
    return "\n".join(_texts(_blocks(content)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# --- what is answered ----------------------------------------------------------------------------


def answer(asked: Asked) -> Reply:
    """What the offline model says to a request."""
    if "CRITICAL: Respond with TEXT ONLY" in asked.prompt:
        return _say(
            "<analysis>The offline model does not analyse.</analysis>\n"
            f"<summary>An offline conversation of {asked.turn} messages.</summary>"
        )
    if not asked.results:
        return _obey(asked)
    told = "The tool said: " + "\n".join(asked.results)
    if not asked.prompt:
        return _say(told)
    # Somebody spoke while the tool ran: both get their answer.
    also = _obey(asked)
    match also.blocks:
        case (Text(text),):
            return attrs.evolve(also, blocks=(Text(f"{told}\n\n{text}"),))
        case ():
            return also
    return attrs.evolve(also, blocks=(Text(told), *also.blocks))


def _obey(asked: Asked) -> Reply:
    command, _, rest = asked.prompt.partition(" ")
    rest = rest.strip()
    match command.lower():
        case "echo":
            return _say(rest or "(nothing)")
        case "use":
            return _use(asked, rest)
        case "bash":
            return _call(asked, "Bash", {"command": rest, "description": "asked for in the chat"})
        case "slow":
            seconds = min(_number(rest, 3.0), 3_600.0)
            words = " ".join(str(n) for n in range(1, 41))
            return Reply(
                (Text(f"Slowly, over {seconds:g} seconds: {words}. Done."),), seconds=seconds
            )
        case "long":
            size = int(min(_number(rest, 10_000), 400_000))
            line = "The offline model can talk for as long as you like. "
            return _say((line * (size // len(line) + 1))[:size])
        case "error":
            return _fail(int(_number(rest, 529)))
        case "silent":
            return _say("<internal>The offline model was asked to be silent.</internal>")
        case "help":
            return _say(HELP)
    short = asked.prompt if len(asked.prompt) <= 200 else asked.prompt[:200] + "…"
    return _say(
        f"You said: {short}\n\n"
        "(This is the offline model, there is no Claude behind it. Say `help` for what it can do.)"
    )


def _say(text: str) -> Reply:
    return Reply((Text(text),))


def _use(asked: Asked, rest: str) -> Reply:
    name, _, arguments = rest.partition(" ")
    try:
        given = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError) as error:
        return _say(f'That is not JSON ({error}). Try: use {name or "TOOL"} {{"key": "value"}}')
    calls = given if isinstance(given, list) else [given]
    if not calls or not all(isinstance(each, dict) for each in calls):
        return _say("A tool takes a JSON object.")
    return _call(asked, name, *calls)


def _call(asked: Asked, name: str, *calls: dict[str, Any]) -> Reply:
    for tool in asked.tools:
        if name and (tool == name or tool.rpartition("__")[2] == name):
            return Reply(tuple(ToolUse(tool, each) for each in calls))
    shown = ", ".join(sorted(tool.removeprefix("mcp__pynchy__") for tool in asked.tools))
    return _say(f"No tool {name!r} was offered to me. I have: {shown or 'none'}")


def _number(text: str, default: float) -> float:
    try:
        value = float(text.split()[0])
    except (IndexError, ValueError):
        return default
    return value if 0 <= value < 1e9 else default


_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _fail(status: int) -> Reply:
    if not 400 <= status <= 599:
        return _say("An error has a status from 400 to 599.")
    headers: Headers = (("retry-after", "1"),) if status == 429 else ()
    return Reply(
        status=status, message=f"the offline model was asked for {status}", headers=headers
    )


def _error(reply: Reply) -> bytes:
    kind = _KINDS.get(reply.status, "api_error")
    return json.dumps(
        {"type": "error", "error": {"type": kind, "message": reply.message or kind}}
    ).encode()


# --- how it is written ---------------------------------------------------------------------------


def _tokens(body: bytes) -> int:
    return len(body) // 4 + 1


def _message(request: UpstreamRequest, reply: Reply) -> dict[str, Any]:
    tag = sha256(request.body).hexdigest()[:20]
    content: list[dict[str, Any]] = []
    for number, block in enumerate(reply.blocks):
        match block:
            case Text(text):
                content.append({"type": "text", "text": text})
            case ToolUse(name, given):
                content.append(
                    {"type": "tool_use", "id": f"toolu_{tag}{number}", "name": name, "input": given}
                )
    tool = any(block["type"] == "tool_use" for block in content)
    return {
        "id": f"msg_{tag}",
        "type": "message",
        "role": "assistant",
        "model": request.document.get("model", "offline"),
        "content": content,
        "stop_reason": "tool_use" if tool else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": _tokens(request.body),
            "output_tokens": len(json.dumps(content)) // 4 + 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


def _events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    usage = dict(message["usage"])
    head = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": head}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": part} for part in _parts(block["text"])]
        else:
            empty = {**block, "input": {}}
            written = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": written}]
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
        "usage": {"output_tokens": usage["output_tokens"]},
    }
    yield {"type": "message_stop"}


def _parts(text: str) -> list[str]:
    """A few words at a time, at most 64 parts."""
    size = max(24, len(text) // 64 + 1)
    return [text[at : at + size] for at in range(0, len(text), size)]


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
