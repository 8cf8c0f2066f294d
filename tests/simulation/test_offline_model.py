"""What the offline model understands, and how it is written down."""

import json
from typing import Any
from xml.sax.saxutils import escape

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from pynchy.gateway.exchange import (
    COUNT_TOKENS,
    MESSAGES,
    UpstreamFailure,
    UpstreamRequest,
    UpstreamResponse,
)
from pynchy.gateway.offline import Asked, OfflineModel, Reply, Text, ToolUse, answer, read
from pynchy.model import Attachment, Micros, Quoted
from pynchy.text.prompt import Contents, PromptMessage, PromptTask, render_prompt

TOOLS = [
    {"name": "Bash"},
    {"name": "mcp__pynchy__send_message"},
    {"name": "mcp__pynchy__list_tasks"},
]


def user(*blocks: Any) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks],
    }


def result(text: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": text}]}


def asked(*messages: dict[str, Any]) -> Asked:
    return read({"model": "m", "messages": list(messages), "tools": TOOLS})


def says(prompt: str, *, wrap: bool = False) -> str:
    if wrap:
        prompt = (
            f'<messages chat="x"><message sender="A" time="1">{escape(prompt)}</message></messages>'
        )
    reply = answer(asked(user(prompt)))
    (block,) = reply.blocks
    assert isinstance(block, Text)
    return block.text


@given(st.text().map(str.strip).filter(bool), st.booleans())
def test_echo_says_what_it_was_told(text: str, wrap: bool) -> None:
    assert says(f"echo {text}", wrap=wrap) == text


def test_the_last_message_of_a_prompt_counts() -> None:
    prompt = (
        "Messages of the group follow.\n<messages-7f3a>\n<messages chat='g' timezone='UTC'>"
        '<message sender="Ann" time="10:00">echo one</message>\n'
        '<message sender="Bob" time="10:01"><quoted sender="Ann">echo one</quoted>'
        "@Pynchy echo two &lt;3 &amp; three</message>"
        "</messages>\n</messages-7f3a>"
    )
    assert says(prompt) == "two <3 & three"


def rendered(*messages: PromptMessage, task: PromptTask | None = None, said: str = "") -> str:
    told = Contents(
        messages=messages,
        omitted=2,
        chat="Family",
        said=(said,) if said else (),
        task=task,
        notices=("echo a notice",),
    )
    prompt = render_prompt(
        told,
        timezone="Europe/Berlin",
        now=Micros(0),
        boundary="0123456789abcdef",
        assistant="Pynchy",
    )
    return asked(user(prompt)).prompt


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.booleans())
def test_the_prompts_of_the_host_are_read(text: str, asks: bool) -> None:
    before = PromptMessage("Ann", Micros(1), "echo one")
    quoted = Quoted("id", "Ann", "echo </quoted> one")
    file = Attachment("a.png", "image/png", 3)
    said = f"echo <b>&amp; </text></message>{text}."
    message = PromptMessage("Bob", Micros(2), f"@Pynchy {said}", quoted, (file,), asks)
    assert rendered(before, message, said="</message><message>echo no") == said
    later = PromptMessage("Cid", Micros(3), "echo later")
    assert rendered(before, message, later) == (said if asks else "echo later")


def test_the_prompt_of_a_task_is_read() -> None:
    task = PromptTask("0" * 32, "echo from a <task>", Micros(5))
    assert rendered(task=task) == "echo from a <task>"


@pytest.mark.parametrize(
    "prompt", ["@Pynchy echo x", "@Pynchy, echo x", " @pynchy: ECHO x", "echo x"]
)
def test_a_trigger_is_left_out(prompt: str) -> None:
    assert says(prompt) == "x"


def test_reminders_and_system_entries_are_not_what_was_said() -> None:
    said = asked(
        user("<system-reminder>\necho no\n</system-reminder>", "echo yes"),
        {"role": "system", "content": "# Environment\necho no"},
    )
    assert said.prompt == "echo yes"


def test_the_last_of_what_was_merged_counts() -> None:
    command = "<local-command-caveat>not for you</local-command-caveat>"
    said = asked(user("echo one", command, "echo two", "<command-name>/compact</command-name>"))
    assert said.prompt == "echo two"


def test_what_was_said_before_the_last_answer_is_past() -> None:
    said = asked(user("echo one"), {"role": "assistant", "content": "one"}, user("echo two"))
    assert said.prompt == "echo two"


@pytest.mark.parametrize("name", ["send_message", "mcp__pynchy__send_message"])
def test_an_offered_tool_is_called(name: str) -> None:
    reply = answer(asked(user(f'use {name} {{"text": "hi"}}')))
    assert reply.blocks == (ToolUse("mcp__pynchy__send_message", {"text": "hi"}),)


def test_bash_is_called_with_its_command() -> None:
    (use,) = answer(asked(user("bash ls -l | wc"))).blocks
    assert isinstance(use, ToolUse)
    assert (use.name, use.input["command"]) == ("Bash", "ls -l | wc")


def test_only_offered_tools_are_called() -> None:
    assert "send_message" in says("use launch {}")
    assert "No tool ''" in says("use ")
    assert "not JSON" in says("use Bash {")
    assert "object" in says("use Bash []")
    assert "object" in says("use Bash [1]")


def test_a_tools_result_is_reported() -> None:
    turn = (user("bash ls"), {"role": "assistant", "content": [{"type": "tool_use"}]})
    reply = answer(asked(*turn, user(result("a\nb"))))
    assert reply.blocks == (Text("The tool said: a\nb"),)


def test_who_spoke_while_a_tool_ran_is_answered_too() -> None:
    note = "The user sent a new message while you were working:\n<messages><message>echo also</message></messages>"
    reply = answer(
        asked(
            user("bash ls"),
            {"role": "assistant", "content": "x"},
            user(result("a")),
            {"role": "system", "content": note},
        )
    )
    assert reply.blocks == (Text("The tool said: a\n\nalso"),)


def test_silence_is_a_note_to_itself() -> None:
    assert says("silent").startswith("<internal>")
    assert says("silent").endswith("</internal>")


def test_long_answers_have_their_length() -> None:
    assert len(says("long 12345")) == 12345
    assert len(says("long 1e12")) == 10_000  # not a length, so the usual one


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "authentication_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_are_errors(status: int, kind: str) -> None:
    got, _, body = sent(f"error {status}")
    assert (got, json.loads(body)["error"]["type"]) == (status, kind)


def test_a_compaction_gets_its_summary() -> None:
    text = says("Summarise.\nCRITICAL: Respond with TEXT ONLY. Do not call tools.")
    assert "<analysis>" in text
    assert "<summary>" in text


def test_everything_else_is_a_friendly_echo() -> None:
    assert "how are you" in says("how are you")
    assert "offline model" in says("how are you")
    assert len(says("x" * 100_000)) < 500
    assert "use TOOL" in says("help")


json_value = st.recursive(
    st.none() | st.text(max_size=9) | st.integers(),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "user", "tool_result", "name"]),
            v,
            max_size=3,
        )
    ),
)


@given(json_value, json_value)
def test_any_request_gets_an_answer(messages: Any, tools: Any) -> None:
    assert answer(read({"messages": messages, "tools": tools})).blocks
    assert answer(
        read({"messages": [{"role": "user", "content": messages}], "tools": [tools]})
    ).blocks


def sent(
    prompt: str, *, stream: bool = False, path: str = MESSAGES, model: OfflineModel | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One call, the way the gateway makes it."""
    document = {"model": "m", "stream": stream, "tools": TOOLS, "messages": [user(prompt)]}
    request = UpstreamRequest(path, path, (), json.dumps(document).encode(), document)

    async def main() -> tuple[int, dict[str, str], bytes]:
        async with (model or OfflineModel()).send(request) as response:
            if isinstance(response, UpstreamFailure):
                return response.status, dict(response.headers), response.body
            body = b"".join([chunk async for chunk in response.chunks])
            return response.status, dict(response.headers), body

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_same_question_gets_the_same_answer() -> None:
    assert sent("echo x") == sent("echo x")
    assert sent("echo x", stream=True) == sent("echo x", stream=True)


@pytest.mark.parametrize(
    "prompt", ["echo hello there", "long 5000", 'use send_message {"text": "é"}', "silent"]
)
def test_a_stream_says_what_a_plain_answer_says(prompt: str) -> None:
    plain = json.loads(sent(prompt)[2])
    status, headers, body = sent(prompt, stream=True)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    content: list[dict[str, Any]] = []
    for written in body.decode().strip().split("\n\n"):
        name, data = written.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        match event["type"]:
            case "content_block_start":
                content.append({**event["content_block"], "parts": ""})
            case "content_block_delta":
                delta = event["delta"]
                content[event["index"]]["parts"] += delta.get("text", "") + delta.get(
                    "partial_json", ""
                )
            case "message_delta":
                assert event["delta"]["stop_reason"] == plain["stop_reason"]
                assert event["usage"]["output_tokens"] == plain["usage"]["output_tokens"]
    for block, whole in zip(content, plain["content"], strict=True):
        parts = block["parts"]
        if whole["type"] == "text":
            assert parts == whole["text"]
        else:
            assert json.loads(parts) == whole["input"]
            assert block["name"] == whole["name"]


def test_tokens_are_counted() -> None:
    assert json.loads(sent("echo x", path=COUNT_TOKENS)[2])["input_tokens"] > 0


def test_a_slow_answer_takes_its_time() -> None:
    async def main() -> float:
        document = {"model": "m", "stream": True, "messages": [user("slow 30")]}
        began = trio.current_time()
        request = UpstreamRequest(MESSAGES, MESSAGES, (), b"", document)
        async with OfflineModel().send(request) as response:
            assert isinstance(response, UpstreamResponse)
            async for _ in response.chunks:
                pass
        return trio.current_time() - began

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(30)


def test_a_script_is_asked_first() -> None:
    def script(asked: Asked) -> Reply | None:
        return Reply((Text("from the script"),)) if "secret" in asked.prompt else None

    model = OfflineModel(script)
    assert b"from the script" in sent("the secret", model=model)[2]
    assert b"hello" in sent("echo hello", model=model)[2]
