"""What agents ask people for: how it is shown, who may say yes, and that a yes counts once, for that alone."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.actions.actor import OWNER
from pynchy.actions.approvals import Decided, decide
from pynchy.actions.call import Host
from pynchy.actions.effects import NOTHING, Effects
from pynchy.actions.refused import Refused
from pynchy.chat import command_handlers, commands
from pynchy.chat.receiver import Asked
from pynchy.limits import APPROVALS
from pynchy.model import (
    DAY,
    MAIN,
    MAIN_CONSOLE,
    ChatId,
    Group,
    GroupId,
    Message,
    Micros,
    SenderId,
    after,
)
from pynchy.policy import tools
from pynchy.policy.requests import (
    ALPHABET,
    Request,
    code_of,
    digest,
    question,
    read,
    read_code,
    visible,
)
from pynchy.store import approvals, audit, groups, tasks, turns
from pynchy.store.database import Tx
from tests.rules.test_policy import ANN, CHAT, FAMILY, NOON, WORK, World

BOB = SenderId("4918@s.whatsapp.net")
MOUNT = {"path": "/srv/photos"}
SEEN = ChatId("120555@g.us")
REGISTER = {"chat": SEEN, "name": "Club", "folder": "club"}
TASK = {
    "prompt": "water the plants",
    "schedule_type": "interval",
    "schedule_value": 3600,
    "context_mode": "group",
    "target_group": "work",
}


def asked(there: World, name: str, args: dict[str, Any]) -> str:
    """The code under which it waits."""
    done = there.call(name, args)
    assert done.ok, done
    found = re.fullmatch(r"waiting for approval (\w{8}): .*", done.text)
    assert found is not None, done.text
    return found[1]


def yes(there: World, code: str, *, now: Micros = NOON, **more: Any) -> tuple[Decided, Effects]:
    return decide(Tx(there.db, now, there.new_id), OWNER, code, approve=True, **more)


def no(there: World, code: str) -> tuple[Decided, Effects]:
    return decide(Tx(there.db, NOON, there.new_id), OWNER, code, approve=False)


def woken(there: World, folder: GroupId = FAMILY) -> list[str]:
    """The prompts that outcomes became."""
    rows = there.db.execute(
        "SELECT prompt FROM turns WHERE kind = 'notice' AND source = 'approval' AND folder = ? "
        "ORDER BY id",
        (folder,),
    )
    return [str(row[0]) for row in rows]


def state(there: World, code: str) -> str:
    found = approvals.get(there.db, code)
    assert found is not None
    return found.state


def main_world() -> World:
    """The owner speaks in main, and a chat was seen that is nobody's."""
    there = World(MAIN)
    groups.see_chat(there.db, SEEN, name="The Club")
    return there


# --- what is shown -------------------------------------------------------------------------------


def unescape(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        body = found[1]
        return {"\\": "\\", "n": "\n"}.get(body) or chr(int(body[2:-1], 16))

    return re.sub(r"\\(\\|n|u\{[0-9A-F]+\})", one, text)


texts = st.text(st.characters(codec=None), max_size=60) | st.text(
    "\u202e\u2066\\`n u{}0\n\ufe0f\u0301ab"
)


@given(texts)
def test_what_is_shown_is_the_whole_of_it_and_can_all_be_seen(text: str) -> None:
    # threat I6
    shown = visible(text)
    assert unescape(shown) == text  # so no two texts look the same
    assert shown.isprintable()
    assert "`" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/\u202etxt.exe", "/srv/\\u{202E}txt.exe"),
        ("a\nb\\n", "a\\nb\\\\n"),
        ("a\u200bb\u2060c\ufeff", "a\\u{200B}b\\u{2060}c\\u{FEFF}"),
        ("x\u3164\u00a0\u2028", "x\\u{3164}\\u{00A0}\\u{2028}"),
        (
            "caf\u0065\u0301 \u0928\u092e\u0938\u094d\u0924\u0947",
            "caf\u0065\u0301 \u0928\u092e\u0938\u094d\u0924\u0947",
        ),
        ("e\u0301\u0301\u0301", "e\u0301\u0301\\u{0301}"),
        ("\U000e0041\ufe0f\x1b[2J\x07", "\\u{E0041}\\u{FE0F}\\u{001B}[2J\\u{0007}"),
        ("```/approve", "\\u{0060}\\u{0060}\\u{0060}/approve"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, shown: str) -> None:  # threat I6
    assert visible(text) == shown


@given(texts, st.integers(0, 12_000))
def test_a_long_request_is_shown_in_full_over_several_messages(text: str, more: int) -> None:
    request = Request(FAMILY, "schedule_task", {"prompt": text + "x\u202e" * more})
    said = question(request, code="ABCDEFGH", minutes=60)
    assert all(each.startswith("\N{WHITE SQUARE CONTAINING BLACK SMALL SQUARE} ") for each in said)
    assert all(len(each) < 4_000 for each in said)
    blocks = [re.search(r"\n```\n(.*)\n```", each, re.DOTALL) for each in said]
    whole = "".join(block[1] for block in blocks if block is not None)
    assert unescape(whole.split("prompt = ", 1)[1]) == request.args["prompt"]
    assert "/approve ABCDEFGH" in said[-1]
    assert digest(request.canonical)[:12] in said[-1]


def test_a_request_has_one_form() -> None:
    one = Request(FAMILY, "request_mount", {"path": "/a", "name": "b"})
    other = Request(FAMILY, "request_mount", {"name": "b", "path": "/a"})
    assert one.canonical == other.canonical
    assert read(one.canonical) == one
    assert digest(one.canonical) != digest(Request(WORK, one.command, one.args).canonical)


@given(st.integers(0, 2**128 - 1))
def test_codes_are_forty_bits_and_forgive_how_they_are_written(number: int) -> None:
    code = code_of(f"{number:032x}")
    assert len(code) == 8
    assert sum(ALPHABET.index(each) << 5 * at for at, each in enumerate(reversed(code))) == (
        number % 2**40
    )
    assert read_code(f"{code[:4]}-{code[4:]}".lower()) == code
    assert read_code("oil1-0000") == "01110000"


# --- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "trusted", "name", "args", "asks"),
    [
        (False, False, "request_mount", MOUNT, True),
        (True, True, "request_host", {"host": "x"}, True),
        (True, True, "request_tool", {"tool": "web_search"}, True),
        (True, True, "register_group", REGISTER, True),
        (False, False, "schedule_task", TASK, True),
        (True, False, "schedule_task", TASK, True),
        (True, True, "schedule_task", TASK, False),
        (False, False, "schedule_task", TASK | {"target_group": "family"}, False),
        (False, False, "send_message", {"text": "x"}, False),
        (True, True, "update_group", {"folder": "work"}, False),
    ],
)
def test_what_leaves_a_groups_own_powers_is_asked_for(
    main: bool, trusted: bool, name: str, args: dict[str, Any], asks: bool
) -> None:
    from tests.rules.test_policy import caller

    assert tools.asks(caller(main=main, trusted=trusted), name, args) is asks


def test_what_is_asked_is_shown_in_main_in_full_and_nothing_is_done() -> None:
    there = World()
    code = asked(there, "request_mount", MOUNT | {"writable": True})
    [row] = there.outbox()
    assert (row["chat"], row["notice"], row["turn_id"]) == (MAIN_CONSOLE, 1, None)
    assert "The agent of family asks for a folder or file of this machine:" in row["text"]
    assert "name = photos\npath = /srv/photos\nwritable = true\n" in row["text"]
    assert f"/approve {code} or /deny {code}" in row["text"]
    assert groups.settings(there.db, FAMILY) == {}
    assert woken(there) == []
    assert [row["action"] for row in audit.recent(there.db)] == ["approval asked"]


def test_who_asks_twice_for_the_same_is_told_the_same() -> None:
    there = World()
    assert asked(there, "request_mount", MOUNT) == asked(there, "request_mount", MOUNT)
    assert len(there.outbox()) == 1


def test_one_group_cannot_flood_people_with_requests() -> None:  # threat I5
    there = World()
    for number in range(APPROVALS.open):
        asked(there, "request_mount", {"path": f"/srv/{number}"})
    refused = there.call("request_mount", {"path": "/srv/more"})
    assert not refused.ok
    assert "wait for a person" in refused.text
    assert len(there.outbox()) == APPROVALS.open
    for number in range(APPROVALS.a_day - APPROVALS.open):
        no(there, approvals.recent(there.db)[0].code)
        asked(there, "request_mount", {"path": f"/srv/again/{number}"})
    no(there, approvals.recent(there.db)[0].code)
    assert "within a day" in there.call("request_mount", {"path": "/srv/more"}).text
    tomorrow = after(NOON, DAY + 1)
    assert there.call("request_mount", {"path": "/srv/more"}, now=tomorrow).ok


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("request_mount", {"path": "srv"}, "not an absolute path"),
        ("request_mount", {"path": "srv/x"}, "not an absolute path"),
        ("request_mount", {"path": "/srv/../etc"}, "not an absolute path"),
        ("request_mount", {"path": "/srv/x", "name": "../x"}, "not a name"),
        ("request_mount", {"path": "/srv/\u202ex", "name": "x"}, "invisible characters"),
        ("request_host", {"host": "10.0.0.1"}, "no host name"),
        ("request_host", {"host": "a b"}, "no host name"),
        ("request_host", {"host": "*"}, "no host name"),
        ("request_tool", {"tool": "model"}, "name the model"),
        ("request_tool", {"tool": "web_search", "model": "claude-x"}, "a model is named"),
        ("request_tool", {"tool": "model", "model": "claude-x"}, "every model already"),
        ("schedule_task", TASK | {"target_group": "../work"}, "not the name of a group"),
        ("schedule_task", TASK | {"schedule_value": 1}, "300"),
    ],
)
def test_what_nobody_could_approve_is_not_asked(name: str, args: dict[str, Any], why: str) -> None:
    there = World()
    refused = there.call(name, args)
    assert not refused.ok
    assert why in refused.text
    assert there.outbox() == []
    assert approvals.recent(there.db) == []


def test_whether_a_group_exists_is_not_told_to_who_asks_for_a_task_in_it() -> None:  # threat I3
    there = World()
    texts = [
        there.call("schedule_task", TASK | {"target_group": folder}).text.partition(":")[2]
        for folder in ("work", "nowhere")
    ]
    assert texts[0] == texts[1]


# --- deciding ------------------------------------------------------------------------------------


def test_a_mount_that_is_approved_is_set_and_its_agent_is_woken() -> None:
    there = World()
    code = asked(there, "request_mount", MOUNT)
    _, effects = yes(there, code)
    assert effects == Effects(outdated=(FAMILY,), look=(FAMILY,))
    assert groups.settings(there.db, FAMILY) == {
        "mounts": [{"path": "/srv/photos", "name": "photos", "writable": False}]
    }
    assert state(there, code) == "done"
    [prompt] = woken(there)
    assert "approved it, and it is done: /srv/photos is a mount" in prompt
    actions = [(row["actor"], row["action"]) for row in audit.recent(there.db)]
    assert actions == [
        ("owner", "approved"),
        ("owner", "mount added"),
        ("agent of family", "approval asked"),
    ]


def test_no_request_changes_a_mount_that_is_there() -> None:
    there = World()
    before = {"mounts": [{"path": "/srv/photos", "name": "photos", "writable": False}]}
    code = asked(there, "request_mount", {"path": "/etc/x", "name": "photos"})
    groups.set_settings(there.db, FAMILY, before)  # meanwhile
    assert not yes(there, code)[0].ok
    assert state(there, code) == "failed"
    assert groups.settings(there.db, FAMILY) == before
    assert "could not be done: this group has a mount" in woken(there)[0]
    assert not there.call("request_mount", {"path": "/etc/x", "name": "photos"}).ok


def test_a_host_that_is_approved_is_on_the_list_and_opens_nothing_that_was_closed() -> None:
    there = World()
    code = asked(there, "request_host", {"host": "Example.ORG"})
    yes(there, code)
    assert groups.settings(there.db, FAMILY) == {"hosts": ["example.org"]}
    assert "already" in there.call("request_host", {"host": "example.org"}).text
    groups.set_settings(there.db, FAMILY, {"egress": "none"})
    assert "closed every way out" in there.call("request_host", {"host": "example.net"}).text


def test_a_tool_or_a_model_that_is_approved_is_the_groups_and_opens_nothing_that_was_closed() -> (
    None
):
    there = World()
    search = {"tool": "web_search"}
    yes(there, asked(there, "request_tool", search))
    assert groups.settings(there.db, FAMILY) == {"server_tools": ["web_search"]}
    assert "already" in there.call("request_tool", search).text
    for closed in ({"egress": "none"}, {"server_tools": ["none"]}):
        groups.set_settings(there.db, FAMILY, closed)
        assert "nobody in a chat opens it" in there.call("request_tool", search).text
    groups.set_settings(there.db, FAMILY, {"models": ["claude-a"]})
    yes(there, asked(there, "request_tool", {"tool": "model", "model": "claude-b"}))
    assert groups.settings(there.db, FAMILY) == {"models": ["claude-a", "claude-b"]}
    assert {"tool added", "model added"} <= {row["action"] for row in audit.recent(there.db)}


def test_a_search_that_the_model_api_does_not_have_is_not_asked_for() -> None:
    there = World()
    told = there.call("request_tool", {"tool": "web_search"}, host=Host(searches=False))
    assert (told.ok, "model.web_search" in told.text) == (False, True)
    assert approvals.recent(there.db) == []


def test_a_group_that_an_agent_registers_waits_for_a_person() -> None:  # threat I7
    there = main_world()
    code = asked(there, "register_group", REGISTER)
    club = GroupId("club")
    assert groups.get(there.db, club) is None
    made: list[Group] = []
    yes(there, code, scaffold=made.append)
    found = groups.get(there.db, club)
    assert found is not None
    assert (found.name, found.trigger, found.requires_trigger) == ("Club", "Pynchy", True)
    assert groups.chats_of(there.db, club) == [SEEN]
    assert groups.settings(there.db, club) == {}
    assert made == [found]
    assert woken(there, MAIN)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"chat": "9@g.us"}, "no such chat has been seen"),
        ({"chat": CHAT}, "belongs to family already"),
        ({"folder": "family"}, "is registered already"),
        ({"folder": "../x"}, "a folder name has"),
        ({"folder": "main"}, "a folder name has"),
        ({"folder": "global"}, "a folder name has"),
        ({"name": "A\nB"}, "one line that can be seen"),
        ({"name": "\u202eB"}, "one line that can be seen"),
        ({"trigger": "@"}, "a name of one line"),
        ({"trigger": "a\nb"}, "a name of one line"),
        ({"mounts": ["/"]}, "mounts: unknown; known"),
        ({"requires_trigger": "no"}, "expected true or false"),
    ],
)
def test_a_registration_that_is_somebody_elses_or_odd_is_refused(
    change: dict[str, Any], why: str
) -> None:  # threat I7
    there = main_world()
    refused = there.call("register_group", REGISTER | change)
    assert not refused.ok
    assert why in refused.text
    assert approvals.recent(there.db) == []
    assert len(groups.list_groups(there.db)) == 3


def test_a_trigger_is_a_name_and_never_a_pattern() -> None:  # threat I7
    there = main_world()
    yes(there, asked(there, "register_group", REGISTER | {"trigger": ".*"}))
    club = groups.get(there.db, GroupId("club"))
    assert club is not None
    from pynchy.text.triggers import is_trigger

    assert not is_trigger(there.message("@anything at all", "B1", SEEN), club)
    assert is_trigger(there.message("@.* hello", "B1", SEEN), club)


def test_a_chat_that_was_taken_meanwhile_is_not_registered_and_no_half_of_it_is() -> None:
    # threat I7, invariant 158
    there = main_world()
    code = asked(there, "register_group", REGISTER)
    groups.add_chat(there.db, WORK, SEEN)
    assert "belongs to work already" in yes(there, code)[0].text
    assert groups.get(there.db, GroupId("club")) is None
    assert state(there, code) == "failed"


def test_what_fails_half_way_leaves_nothing() -> None:
    there = main_world()
    code = asked(there, "register_group", REGISTER)

    def no_room(group: Group) -> None:
        raise groups.CannotRegister("there is something in its place")

    assert not yes(there, code, scaffold=no_room)[0].ok
    assert groups.get(there.db, GroupId("club")) is None
    assert state(there, code) == "failed"


def test_a_task_in_another_group_has_no_more_authority_than_who_asked() -> None:
    there = World()
    code = asked(there, "schedule_task", TASK | {"target_group": "main"})
    assert tasks.of_group(there.db, MAIN) == []
    _, effects = yes(there, code)
    assert effects.schedules
    [task] = tasks.of_group(there.db, MAIN)
    assert (task.prompt, task.creator, task.chat) == ("water the plants", ANN, MAIN_CONSOLE)
    assert not yes_again_is_possible(there, code)


def yes_again_is_possible(there: World, code: str) -> bool:
    try:
        yes(there, code)
    except Refused:
        return False
    return True


def test_a_task_for_a_group_that_is_not_there_fails_and_says_so() -> None:
    there = World()
    code = asked(there, "schedule_task", TASK | {"target_group": "nowhere"})
    assert "there is no group nowhere" in yes(there, code)[0].text
    assert state(there, code) == "failed"


def test_an_approval_counts_once_for_the_one_thing_as_things_are_then() -> None:
    # threat I5, invariant 158
    there = World()
    code = asked(there, "request_mount", MOUNT)
    with pytest.raises(Refused, match="not the request that was shown"):
        yes(there, code, sha256="0" * 64)
    yes(there, code)
    groups.set_settings(there.db, FAMILY, {})
    for word in (yes, no):
        with pytest.raises(Refused, match="it was approved"):
            word(there, code)
    assert groups.settings(there.db, FAMILY) == {}
    assert len(woken(there)) == 1


def test_what_is_denied_stays_denied() -> None:
    there = World()
    code = asked(there, "request_mount", MOUNT)
    decided, effects = no(there, code)
    assert decided.text == "Denied: request_mount of family."
    assert (decided.ok, effects) == (True, Effects(look=(FAMILY,)))
    assert not yes_again_is_possible(there, code)
    assert groups.settings(there.db, FAMILY) == {}
    assert "denied it" in woken(there)[0]


def test_what_nobody_decides_expires_and_its_agent_is_told() -> None:  # threat I5
    there = World()
    code = asked(there, "request_mount", MOUNT)
    end = after(NOON, approvals.LIFETIME)
    assert approvals.expire(Tx(there.db, Micros(end - 1))) == approvals.Expired((), end)
    with pytest.raises(Refused, match="has expired"):  # although nobody has noticed yet
        yes(there, code, now=end)
    assert approvals.expire(Tx(there.db, end)) == approvals.Expired((FAMILY,), None)
    assert approvals.expire(Tx(there.db, end)) == approvals.Expired((), None)
    assert state(there, code) == "expired"
    assert "Nobody decided in time" in woken(there)[0]


def test_a_group_that_was_removed_and_another_of_its_name_get_nothing() -> None:
    there = World()
    first, second = (
        asked(there, "request_mount", MOUNT),
        asked(there, "request_host", {"host": "a.org"}),
    )
    turns.cancel(Tx(there.db, NOON), FAMILY, all_of_it=True)
    groups.remove(there.db, FAMILY)
    decided, effects = yes(there, first)
    assert (decided.ok, effects) == (False, NOTHING)
    groups.register(
        Tx(there.db, after(NOON, 60)),
        folder=FAMILY,
        name="Other",
        chats=(CHAT,),
        trigger="Pynchy",
        requires_trigger=False,
    )
    assert "the group that asked is gone" in yes(there, second, now=after(NOON, 61))[0].text
    assert groups.settings(there.db, FAMILY) == {}


@pytest.mark.parametrize("code", ["", "ZZZZZZZZ", "' OR 1=1", "0" * 10_000])
def test_a_code_that_was_never_given_decides_nothing(code: str) -> None:  # threat I5
    there = World()
    asked(there, "request_mount", MOUNT)
    with pytest.raises(Refused, match="no request of that code"):
        yes(there, code)


@pytest.mark.parametrize(
    "change",
    [
        "request = '{}'",
        "sha256 = replace(sha256, '0', '1') || ''",
        "code = '00000000'",
        "expires_at = expires_at + 1",
        "folder = 'main'",
    ],
)
def test_a_request_cannot_be_changed_once_it_is_asked(change: str) -> None:  # threat I6
    there = World()
    asked(there, "request_mount", MOUNT)
    with pytest.raises(sqlite3.IntegrityError, match="changed after it was asked"):
        there.db.execute(f"UPDATE approvals SET {change}")  # noqa: S608 - our own words


def test_a_request_that_has_ended_stays_as_it_is() -> None:
    there = World()
    no(there, asked(there, "request_mount", MOUNT))
    with pytest.raises(sqlite3.IntegrityError, match="ended twice"):
        there.db.execute("UPDATE approvals SET state = 'done'")


# --- in the chat ---------------------------------------------------------------------------------


def order(there: World, text: str, *, sender: SenderId, chat: ChatId, own: bool = False) -> str:
    """What somebody is answered who writes this; "" if it is no order there."""
    group = groups.by_chat(there.db, chat)
    assert group is not None
    message = Message(
        chat=chat, id="X", sender=sender, sender_name="X", sent_at=NOON, text=text, from_me=own
    )
    found = commands.parse(message, group)
    if found is None:
        return ""
    refusal = commands.refusal(found, message, group)

    before = len(there.outbox())
    command_handlers.carry_out(
        Tx(there.db, NOON, there.new_id),
        Asked(command=found, message=message, group=group, refusal=refusal),
    )
    [said] = there.outbox()[before:]
    return str(said["text"])


def test_only_people_whom_main_trusts_approve_and_only_in_main() -> None:
    # threat I5, invariant 155
    there = World()
    main_group = ChatId("120777@g.us")
    groups.add_chat(there.db, MAIN, main_group)
    groups.set_allowed_senders(there.db, MAIN, (BOB,))
    code = asked(there, "request_mount", MOUNT)
    assert there.outbox()[-1]["chat"] == main_group
    line = f"/approve {code.lower()}"
    assert order(there, line, sender=ANN, chat=CHAT) == ""  # in the group itself it is mere talk
    assert order(there, line, sender=BOB, chat=CHAT) == ""
    assert "Only the owner" in order(there, line, sender=ANN, chat=main_group)
    assert order(there, f"/\u0430pprove {code}", sender=BOB, chat=main_group) == ""
    assert order(there, f"please {line}", sender=BOB, chat=main_group) == ""
    assert "no request of that code" in order(
        there, "/approve ZZZZ-ZZZZ", sender=BOB, chat=main_group
    )
    assert state(there, code) == "asked"
    assert "Approved, for family" in order(there, line, sender=BOB, chat=main_group)
    assert state(there, code) == "done"
    assert audit.recent(there.db, limit=1)[0]["actor"] == BOB
    assert "it was approved" in order(there, f"/deny {code}", sender=BOB, chat=main_group)


def test_the_owner_approves_at_the_console_and_on_their_own_account() -> None:
    there = World()
    first, second = (
        asked(there, "request_mount", MOUNT),
        asked(there, "request_host", {"host": "a.org"}),
    )
    assert "Approved" in order(there, f"/approve {first}", sender=ANN, chat=MAIN_CONSOLE)
    main_group = ChatId("120777@g.us")
    groups.add_chat(there.db, MAIN, main_group)
    assert "Denied" in order(there, f"/deny {second}", sender=ANN, chat=main_group, own=True)
