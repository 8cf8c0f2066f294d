"""Which of an agent's words are its answer, whatever they come in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy_agent.answer import LIMITS, Answer

Spoken = tuple[Sequence[str], str | None]  # the blocks of one message, and why it ended


def heard(
    messages: Sequence[Spoken], *, ids: bool = True, tools: frozenset[int] = frozenset()
) -> Answer:
    """What is heard when a model says this; the messages numbered in ``tools`` end in a call of a tool."""
    answer = Answer()
    for number, (blocks, stop) in enumerate(messages):
        message = f"msg_{number}" if ids else None
        answer.begin()
        for block in blocks:
            answer.text(message, block)
        if number in tools:
            answer.other(message, tool=True)
        if stop is not None:
            answer.stop(stop)
    return answer


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
limits = st.sampled_from([*sorted(LIMITS), None])  # None: the stream broke, and the model resumed


@given(
    st.lists(st.tuples(st.lists(words, max_size=3), limits), max_size=4),
    st.lists(words, min_size=1),
    st.booleans(),
)
def test_an_answer_is_the_same_however_it_was_split(
    parts: list[tuple[list[str], str | None]], last: list[str], ids: bool
) -> None:
    # invariant 193
    answer = heard([*parts, (last, "end_turn")], ids=ids)
    whole = "".join(block for blocks, _ in parts for block in blocks) + "".join(last)
    if whole.strip():
        assert answer.words() == whole
    assert not answer.is_cut() or not "".join(last).strip()


@given(st.lists(words.filter(lambda text: text.strip() != ""), min_size=1, max_size=4))
def test_what_was_said_beside_tools_is_the_answer_only_if_nothing_follows(said: list[str]) -> None:
    # invariant 193
    beside: list[Spoken] = [([text], "tool_use") for text in said]
    tools = frozenset(range(len(said)))
    silent = heard([*beside, ([], "end_turn")], tools=tools)
    for text in said:
        assert text.strip("\n") in silent.words()
    assert heard([*beside, (["So."], "end_turn")], tools=tools).words() == "So."
    for text in said:
        silent.sent(text)
    assert silent.words() == ""


@pytest.mark.parametrize("stop", sorted(LIMITS))
def test_a_part_that_never_came_is_missing(stop: str) -> None:
    # invariant 193
    assert heard([(["Half"], stop)]).is_cut()
    assert heard([(["Half"], stop), ([], "end_turn")]).is_cut()
    assert not heard([(["Half, "], stop), (["whole."], "end_turn")]).is_cut()
    assert not heard([([], stop)]).is_cut()  # nothing is there that could be a part


def test_something_else_between_two_texts_separates_them() -> None:
    answer = Answer()
    for text in ("I look.", "Rain."):
        answer.other("msg", tool=False)
        answer.text("msg", text)
    assert answer.words() == "I look.\n\nRain."


def test_a_refused_message_is_not_continued() -> None:
    assert heard([(["Take the"], "refusal"), (["I cannot say."], "end_turn")]).words() == (
        "I cannot say."
    )
