"""What only the host may say, and how: nobody else's words pass for it, also where the host repeats them.

Who reads a chat knows the host by its mark, and believes it: above all in main, where people approve. So every word of
the host's has the mark, once, at its start; and an agent's error, a task's text, a chat's name stand within its lines.
"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynchy.model import MAIN_CONSOLE, Micros, SenderId
from pynchy.policy.failures import Trouble
from pynchy.store import (
    claims,
    groups,
    guard_reports,
    messages,
    outbox,
    task_rows,
    tasks,
    turn_failures,
)
from pynchy.store.database import Tx
from pynchy.text.reply import NOTICE_PREFIX, notice, within
from pynchy.text.safe import NOTICE_MARK
from tests.rules.test_approvals import order
from tests.rules.test_policy import CHAT, FAMILY, NOON, RUN, World

FORGED = f"x).\n\n{NOTICE_MARK} The agent of work asks for a mount.\n/approve K7M2-9QXD\u202e"


@given(
    st.text() | st.text(alphabet=f"{NOTICE_MARK} a\n\r\u2028\u202e\u200d\x1b", max_size=40),
    st.integers(1, 50),
)
@example(FORGED, 200)
def test_what_others_say_stays_within_a_line(text: str, limit: int) -> None:
    shown = within(text, limit)
    assert len(shown) <= limit + 2
    assert NOTICE_MARK not in shown
    assert shown == shown.strip()
    for character in shown:
        kind = unicodedata.category(character)
        assert character == " " or kind[0] not in "CZ" or character in "\u200c\u200d"


@given(st.text() | st.text(alphabet=f"{NOTICE_MARK} a\n", max_size=20))
def test_a_word_of_the_hosts_has_its_mark_once_and_first(text: str) -> None:
    said = notice(text)
    assert said.startswith(NOTICE_PREFIX)
    assert said.count(NOTICE_MARK) == 1
    assert notice(said) == said


def in_the_hosts_name(there: World) -> list[str]:
    """All that the host has said, each with its mark; what it repeats has begun no line."""
    said = [str(row["text"]) for row in there.outbox() if row["notice"]]
    for each in said:
        assert each.startswith(NOTICE_PREFIX), each
        assert each.count(NOTICE_MARK) == 1, each
        assert not [line for line in each.split("\n")[1:] if line.startswith("/approve")], each
    return said


def test_an_agents_error_puts_no_words_in_the_hosts_mouth_in_main() -> None:
    # threat P8: main is told why a message of another group could not be answered, by its agent
    there = World()
    now = NOON
    for _ in range(2):
        trouble = Trouble("agent", FORGED)
        turn_failures.fail(Tx(there.db, now, there.new_id), RUN, trouble, jitter=0)
        now = Micros(now + 200_000_000)
        claims.claim(Tx(there.db, now, there.new_id), RUN)
    said = in_the_hosts_name(there)
    told = [each for each in said if "/approve" in each]
    assert all("\n" not in each for each in told)
    chats = [row["chat"] for row in there.outbox() if row["text"] in told]
    assert chats == [CHAT, MAIN_CONSOLE]


@pytest.mark.parametrize("field", ["prompt", "name"])
def test_a_tasks_own_words_begin_no_line_of_a_list(field: str) -> None:
    # threat P8
    there = World()
    there.call(
        "schedule_task",
        {
            "prompt": FORGED[5:], "schedule_type": "interval", "schedule_value": 3600,
            "context_mode": "isolated",
        },
    )  # fmt: skip
    if field == "name":
        there.db.execute("UPDATE tasks SET name = ?", (FORGED,))
    before = len(there.outbox())
    shown = order(there, "/tasks", sender=SenderId("me"), chat=MAIN_CONSOLE, own=True)
    assert len(shown.split("\n")) == 1
    assert len(there.outbox()) == before + 1
    in_the_hosts_name(there)


def test_a_task_that_is_paused_is_named_within_a_line() -> None:
    # threat P8
    there = World()
    there.call(
        "schedule_task",
        {
            "prompt": FORGED[5:], "schedule_type": "interval", "schedule_value": 3600,
            "context_mode": "isolated",
        },
    )  # fmt: skip
    tasks.fire_due(Tx(there.db, Micros(NOON + 3_600_000_000), there.new_id))
    there.db.execute("UPDATE tasks SET failures = 1000")
    (turn,) = there.db.execute("SELECT turn_id FROM fires").fetchone()
    task_rows.pause_if_failing(Tx(there.db, NOON, there.new_id), turn)
    (said,) = in_the_hosts_name(there)
    assert "is paused" in said
    assert "\n" not in said


def test_a_chats_name_begins_no_line_in_main() -> None:
    # threat P8: whoever may name a group in the messenger
    there = World()
    messages.receive(Tx(there.db, NOON), there.message("x", "B1"))
    there.db.execute("UPDATE chats SET name = ? WHERE chat = ?", (FORGED, CHAT))
    groups.update(there.db, FAMILY, name=FORGED)
    outbox.enqueue(Tx(there.db, NOON, there.new_id), outbox.Author(FAMILY, CHAT), ["lost"])
    entry = there.outbox()[-1]["id"]
    outbox.failed(Tx(there.db, NOON, there.new_id), entry, reason=FORGED)
    order(there, "/groups", sender=SenderId("me"), chat=MAIN_CONSOLE, own=True)
    said = in_the_hosts_name(there)
    assert any("could not be delivered" in each and "\n" not in each for each in said)
    assert any(each.count("\n") == 2 for each in said), "three groups, a line each"


def test_what_the_guards_say_has_the_mark() -> None:
    # threat P8, X6
    there = World()
    guard_reports.mounts_refused(
        Tx(there.db, NOON, there.new_id), folder=FAMILY, run=RUN, refused=[("x", FORGED), (FORGED, "no")])  # fmt: skip
    said = in_the_hosts_name(there)
    assert len(said) == 1
    assert said[-1].count("\n") == 2


def test_a_choice_that_an_agent_offers_is_cleaned_as_its_words_are() -> None:
    # threat P8
    there = World()
    asked = there.call(
        "ask_user",
        {
            "question": "Which?",
            "options": [f"{NOTICE_MARK} Approved\u202e", "b <internal>c</internal>\x1b"],
        },
    )
    assert asked.ok
    assert there.outbox()[-1]["text"] == "Which?\n1. # Approved\n2. b"
    refused = there.call(
        "ask_user", {"question": "Which?", "options": ["a", "<internal>b</internal>"]}
    )
    assert not refused.ok
