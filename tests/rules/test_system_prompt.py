"""What an agent is told of itself."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.limits import PROMPTS
from pynchy.policy.allowance import Budget, Egress
from pynchy.policy.system_prompt import FORMATTING, ChatFacts, Facts, system_prompt
from pynchy_agent.instructions import MAX_MEMORY, PROGRAMS, instructions

WHATSAPP = ChatFacts("The Millers", "whatsapp")
CONSOLE = ChatFacts("", "console")

FAMILY = Facts(
    assistant="Andy",
    name="Family",
    is_main=False,
    helper=False,
    scheduled=False,
    timezone="Europe/Berlin",
    chats=(WHATSAPP,),
    people=("Anna", "Ben"),
    mounts=(),
    egress=Egress("public"),
    searches=True,
    search_exists=True,
    tools=("send_message", "request_host", "request_tool", "get_usage"),
    budget=Budget(day_money=5_000_000, all_money=15_000_000),
    turn=3600.0,
)
MAIN = attrs.evolve(FAMILY, name="Main", is_main=True, chats=(CONSOLE,))
HELPER = attrs.evolve(FAMILY, helper=True, tools=())


def told(facts: Facts = FAMILY, **changes: Any) -> str:
    return system_prompt(attrs.evolve(facts, **changes))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (FAMILY, "You are Andy, the personal assistant of the people in a group chat."),
        (FAMILY, 'Name: "Family". Time zone: Europe/Berlin.'),
        (FAMILY, "It is not the main group"),
        (FAMILY, 'Chat: "The Millers" on WhatsApp.'),
        (FAMILY, 'People seen here: "Anna", "Ben".'),
        (FAMILY, "/workspace/group: yours, kept for good."),
        (FAMILY, "/workspace/global: shared by all groups, read-only."),
        (FAMILY, "/workspace/media: files that came with messages"),
        (FAMILY, "/tmp and your home: gone when you stop."),
        (FAMILY, "at most $5.00 a day in this group, $15.00 a day in all groups."),
        (FAMILY, "A turn ends after 60 minutes."),
        (MAIN, "It is the main group, from which all groups are looked after."),
        (MAIN, "Chat: the console."),
        (MAIN, "/workspace/global: shared by all groups, you may change it."),
        (MAIN, "/workspace/groups: the folders of all groups, read-only."),
        (HELPER, "You are a helper of Andy"),
        (HELPER, "/workspace/group: the group's, read-only to you."),
        (HELPER, "/workspace/scratch: write here."),
        (attrs.evolve(FAMILY, people=()), "Nobody has been seen here yet."),
        (attrs.evolve(FAMILY, scheduled=True), "This run is a scheduled task"),
        (
            attrs.evolve(FAMILY, mounts=(("/workspace/extra/photos", False),)),
            "- /workspace/extra/photos: of the machine, read-only.",
        ),
        (
            attrs.evolve(FAMILY, mounts=(("/workspace/extra/notes", True),)),
            "- /workspace/extra/notes: of the machine, you may change it.",
        ),
        (attrs.evolve(FAMILY, budget=Budget()), "no limit is set"),
        (attrs.evolve(FAMILY, budget=Budget(run_tokens=90_000)), "90,000 tokens in one run"),
    ],
)
def test_an_agent_is_told_what_it_is(facts: Facts, words: str) -> None:
    assert words in system_prompt(facts)


def test_it_is_told_nothing_that_is_not_so() -> None:
    assert "/workspace/groups" not in told()
    assert "/workspace/groups" not in told(HELPER, is_main=True)
    assert "/workspace/extra" not in told()
    assert "scheduled task" not in told()
    assert "send_message speaks" not in told(HELPER)
    for word in ("Claude Code", "terminal", "software", "codebase"):
        assert word not in told() + told(MAIN) + told(HELPER)


def test_each_channel_has_its_own_formatting() -> None:
    assert FORMATTING["whatsapp"] in told()
    assert FORMATTING["console"] not in told()
    assert FORMATTING["console"] in told(MAIN)
    assert FORMATTING["whatsapp"] not in told(MAIN)
    both = told(MAIN, chats=(CONSOLE, WHATSAPP))
    assert all(words in both for words in FORMATTING.values())
    assert 'by channel="..."' in both
    assert 'by channel="..."' not in told()
    assert told(chats=(WHATSAPP, WHATSAPP)).count(FORMATTING["whatsapp"]) == 1


@pytest.mark.parametrize(
    ("egress", "says", "asks"),
    [
        (Egress("public"), "reach every public host on ports 443 and 80", False),
        (
            Egress("allowlist", ("example.org", "*.wiki.org")),
            "reach only example.org, *.wiki.org, on ports 443 and 80",
            True,
        ),
        (Egress("allowlist"), "reach no host yet", True),
        (Egress("none"), "only the owner can open it", False),
    ],
)
def test_the_network_is_told_as_it_is(egress: Egress, says: str, asks: bool) -> None:
    assert says in told(egress=egress)
    assert ("call request_host" in told(egress=egress)) == asks
    assert "request_host" not in told(egress=egress, tools=())  # a helper cannot ask


def test_web_search_is_told_as_it_is() -> None:
    assert "WebSearch works." in told()
    assert "request_tool asks for it" in told(searches=False)
    assert "The owner can allow it" in told(searches=False, tools=())
    assert "the model API has none" in told(searches=False, search_exists=False)


def test_long_lists_are_cut_and_say_so() -> None:
    names = [f"P{number:03}" for number in range(PROMPTS.people + 7)]
    assert f'"P{PROMPTS.people - 1:03}", and 7 more.' in told(people=names)
    hosts = tuple(f"h{number}.org" for number in range(PROMPTS.hosts + 3))
    text = told(egress=Egress("allowlist", hosts))
    assert f"h{PROMPTS.hosts - 1}.org and 3 more, on ports" in text
    assert f"h{PROMPTS.hosts}.org" not in text


@given(st.text(), st.text(), st.text())
def test_a_name_stays_a_name(person: str, group: str, chat: str) -> None:  # threat P2
    """Whatever people call themselves, it is one quoted word of one line."""
    plain, hostile = (
        told(people=[a], name=b, chats=(ChatFacts(c, "whatsapp"),))
        for a, b, c in (("x", "x", "x"), (person, group, chat or "x"))
    )
    quoted = re.compile(r'"(?:[^"\\\n]|\\.)*"')
    assert quoted.sub('""', hostile) == quoted.sub('""', plain)


def test_the_container_adds_programs_and_both_pages_of_memory() -> None:
    text = instructions(
        told(), programs=["git", "curl"], shared_memory="A blue door.", own_memory="m" * 40_000
    )
    assert text.startswith(told())
    assert "- Here: git, curl." in text
    assert "ffmpeg" in text.partition("- Not here: ")[2].partition("\n")[0]
    assert "# Shared memory (/workspace/global/CLAUDE.md)\nA blue door." in text
    assert f"only the first {MAX_MEMORY} are shown" in text
    bare = instructions("", programs=PROGRAMS, shared_memory=None, own_memory=None)
    assert bare == f"# Programs\n- Here: {', '.join(PROGRAMS)}."
