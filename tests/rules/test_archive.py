"""The archive: the words of a transcript and nothing else, whatever is in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pynchy_agent.archive import Said, archive, read_transcript, readable, title_of

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


def line(kind: str, content: Any, **more: Any) -> bytes:
    return json.dumps(
        {"type": kind, "message": {"role": kind, "content": content}, **more}
    ).encode()


def test_only_words_since_the_last_compaction_are_kept() -> None:
    queued = {"type": "queued_command", "prompt": "and quickly"}
    transcript = [
        line("user", "long ago"),
        b'{"type":"system","subtype":"compact_boundary"}',
        line("user", "the summary", isCompactSummary=True),
        line("user", "a caveat", isMeta=True),
        line("user", "<command-name>/compact</command-name>"),
        line("user", [{"type": "text", "text": "fix it"}]),
        line(
            "assistant",
            [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look"}],
        ),
        line("assistant", [{"type": "tool_use", "name": "Bash", "input": {}}]),
        line("user", [{"type": "tool_result", "content": "secret"}]),
        json.dumps({"type": "attachment", "attachment": queued}).encode(),
        line("assistant", "in a subagent", isSidechain=True),
        line("assistant", "API Error: 529", isApiErrorMessage=True),
        line("assistant", "done"),
        b'{"type":"assistant","mess',
    ]
    assert [item.text for item in read_transcript(transcript)] == [
        "fix it",
        "I look",
        "and quickly",
        "done",
    ]


def test_a_prompt_of_the_host_reads_as_its_messages() -> None:
    prompt = (
        "Between the two lines ...\n=== aa begin ===\n"
        '<prompt assistant="Pynchy">\n<message id="1" sender="Ann" time="Sun 09:00">\n<text>a &lt;b&gt;</text>\n'
        "</message>\n</prompt>\n=== aa end ==="
    )
    assert readable(prompt) == "**Ann** (Sun 09:00): a <b>"
    assert title_of(readable(prompt)) == "a-b"


def test_half_a_character_does_not_keep_a_conversation_from_being_archived(tmp_path: Path) -> None:
    # the CLI writes JSON of texts that it cut within an emoji
    prompt = (
        '<prompt>\n<message sender="Bo" time="9:00"><text>look \ud83d</text></message>\n</prompt>'
    )
    transcript = tmp_path / "x.jsonl"
    transcript.write_bytes(
        line("user", prompt) + b"\n" + line("assistant", [{"type": "text", "text": "\ude00!"}])
    )
    page = archive(transcript, tmp_path / "pages", NOW)
    assert page is not None
    shown = page.read_text(encoding="utf-8")
    assert "**Bo** (9:00): look \ufffd" in shown
    assert "\ufffd!" in shown


def test_an_older_page_is_continued_but_never_written_over(tmp_path: Path) -> None:
    transcript, folder = tmp_path / "t.jsonl", tmp_path / "conversations"
    transcript.write_bytes(line("user", "boats"))
    page = archive(transcript, folder, NOW)
    assert page == folder / "2026-03-01-boats.md"
    transcript.write_bytes(line("user", "boats") + b"\n" + line("assistant", "two"))
    assert archive(transcript, folder, NOW) == page
    transcript.write_bytes(line("user", "boats") + b"\n" + line("assistant", "other"))
    assert archive(transcript, folder, NOW) == folder / "2026-03-01-boats-2.md"
    assert "two" in page.read_text()


@given(lines=st.lists(st.binary(max_size=80) | st.text(max_size=80).map(str.encode), max_size=5))
def test_any_transcript_can_be_read(lines: list[bytes]) -> None:
    assert all(isinstance(item, Said) for item in read_transcript(lines))


@given(text=st.text())
def test_any_text_makes_a_name(text: str) -> None:
    name = title_of(text)
    assert name
    assert "/" not in name
    assert len(name) <= 40
