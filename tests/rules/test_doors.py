"""Every act through every door that it has: the same rows, the same audit, the same effects."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import attrs
import pytest
import trio

from pynchy.actions import usage as usage_act
from pynchy.actions.actor import Actor
from pynchy.actions.call import Given
from pynchy.actions.commands import handle
from pynchy.actions.effects import NOTHING, Effects
from pynchy.actions.refused import Refused
from pynchy.chat import command_handlers, commands
from pynchy.chat.receiver import Asked
from pynchy.container.mounts.extra import Allowed, Extras
from pynchy.control.ops.acting import Acting
from pynchy.control.ops.approvals import ApprovalOps
from pynchy.control.ops.groups import GroupOps
from pynchy.control.ops.looking import LookingOps
from pynchy.control.ops.memory import MemoryOps
from pynchy.control.ops.settings import SettingsOps
from pynchy.control.ops.tasks import TaskOps
from pynchy.control.server import OpFailed, call, ops_of
from pynchy.gateway.exchange import Reserved, RunIdentity, Usage, Wanted
from pynchy.groups.guards import Guards
from pynchy.model import MAIN, MAIN_CONSOLE, ChatId, Group, GroupId, Message, RunId, SenderId, after
from pynchy.policy.allowance import Budget
from pynchy.schedule.times import spell
from pynchy.store import approvals, audit, groups, ledger
from pynchy.store.database import Opened, Store, Tx
from pynchy_agent.wire import Command
from tests.rules.test_policy import FAMILY, NOON, RUN, World

T = TypeVar("T")

SEEN = ChatId("120555@g.us")
ANNA = "491701234567@s.whatsapp.net"
HOURLY = {"schedule_type": "interval", "schedule_value": 3600, "context_mode": "group"}


async def inline(fn: Callable[[], T], /, *, limiter: object = None) -> T:
    await trio.lowlevel.checkpoint()
    return fn()


class Doors(World):
    """Main in the middle of a turn that its owner asked for, and the doors by which they may act."""

    def __init__(self) -> None:
        super().__init__(MAIN)
        groups.see_chat(self.db, SEEN, name="Club")
        self.followed = NOTHING
        store = Store(
            Opened(self.db, cast("Any", None)),
            cast("Any", inline),
            now=lambda: NOON,
            new_id=self.new_id,
        )
        acting = Acting(store, self.follow)
        guards = Guards(store, cast("Allowed", NothingAllowed()))
        self.ops = ops_of(
            GroupOps(acting, "Pynchy", no_folders, no_messenger),
            SettingsOps(acting, guards),
            TaskOps(acting, "UTC"),
            MemoryOps(acting, "UTC"),
            ApprovalOps(acting, no_folders),
            LookingOps(store, cast("Any", None), "UTC"),
        )

    async def follow(self, effects: Effects) -> None:
        await trio.lowlevel.checkpoint()
        self.followed += effects

    async def say(self, text: str) -> str:
        """The owner writes it in main; what is answered."""
        await trio.lowlevel.checkpoint()
        main = groups.get(self.db, MAIN)
        assert main is not None
        said = Message(MAIN_CONSOLE, "M", SenderId("console:me"), "me", NOON, text)
        order = commands.parse(said, main)
        assert order is not None
        asked = Asked(command=order, message=said, group=main, refusal=None)
        self.followed += command_handlers.carry_out(Tx(self.db, NOON, self.new_id), asked)
        return str(self.outbox()[-1]["text"])

    async def op(self, name: str, /, **args: Any) -> Any:
        """The owner asks for it at the control socket."""
        return await call(self.ops[name], cast("Any", None), args)

    async def agent(self, name: str, /, **args: Any) -> str:
        """Main's agent gives the command."""
        await trio.lowlevel.checkpoint()
        self.sent += 1
        done = handle(
            Tx(self.db, NOON, self.new_id),
            Given(Command(name, args), MAIN, RUN, f"{self.sent:032x}", "0"),
        )
        assert done.ok, done.text
        self.followed += done.effects
        return done.text

    async def approved(self, name: str, /, **args: Any) -> None:
        """Main's agent asks for it, and its owner approves."""
        await self.agent(name, **args)
        [waiting] = approvals.recent(self.db)
        await self.say(f"/approve {waiting.code}")

    async def task(self) -> str:
        await self.op(
            "tasks.add", group=FAMILY, prompt="water", kind="interval", value="3600", name="water"
        )
        return str(self.db.execute("SELECT id FROM tasks").fetchone()[0])

    def rows(self, but: frozenset[str]) -> dict[str, list[Any]]:
        names = self.db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        return {
            name: [tuple(row.items()) for row in self.db.query(f"SELECT * FROM {name}")]  # noqa: S608
            for (name,) in names
            if name not in but and not name.startswith(("outbox", "inbox_fts", "memories_fts"))
        }

    def audit(self) -> list[tuple[str, str | None, str]]:
        found = []
        for row in audit.recent(self.db):
            detail = {k: v for k, v in row["detail"].items() if k not in ("run", "turn")}
            found.append((row["action"], row["folder"], json.dumps(detail, sort_keys=True)))
        return found[::-1]


class NothingAllowed:
    def extras(self, wanted: object, **others: object) -> Extras:
        return Extras()


def no_folders(group: Group) -> None: ...


async def no_messenger() -> None:
    await trio.lowlevel.checkpoint()


Door = Callable[[Doors, str], Awaitable[object]]
Prepare = Callable[[Doors], Awaitable[str | None]]


async def nothing(there: Doors) -> None:
    await trio.lowlevel.checkpoint()


async def paused(there: Doors) -> None:
    await there.op("groups.pause", folder=FAMILY)


async def held_back(there: Doors) -> None:
    await trio.lowlevel.checkpoint()
    there.db.execute("INSERT INTO breakers (folder, kind, at) VALUES ('family', 'turns', 1)")


async def paused_and_held_back(there: Doors) -> None:
    await paused(there)
    await held_back(there)


async def a_task(there: Doors) -> str:
    return await there.task()


async def a_task_that_rests(there: Doors) -> str:
    task = await there.task()
    await there.op("tasks.pause", task=task)
    return task


async def a_mount(there: Doors) -> None:
    await there.op("groups.mount", folder=FAMILY, path="/srv/photos")


async def a_conversation(there: Doors) -> None:
    await trio.lowlevel.checkpoint()
    there.db.execute("UPDATE groups SET session = 's' WHERE folder = 'main'")


async def a_memory(there: Doors) -> str:
    return (await there.agent("remember", text="the cat is called Minka")).rpartition(" ")[2]


async def a_request(there: Doors) -> str:
    await there.agent("request_host", host="example.org")
    return approvals.recent(there.db)[0].code


@attrs.frozen
class Act:
    """``doors`` are given what ``before`` made. ``but`` are tables in which the doors may differ, ``audited`` is how
    many rows it leaves in the audit: what agents say stands elsewhere."""

    doors: dict[str, Door]
    before: Prepare = nothing
    but: frozenset[str] = frozenset({"journal", "audit"})
    audited: int = 1
    follows: bool = True  # whether it has effects


ASKED = frozenset({"journal", "audit", "approvals", "turns", "effects"})

ACTS: dict[str, Act] = {
    "pause a group": Act(
        {
            "chat": lambda d, _: d.say("/pause family"),
            "op": lambda d, _: d.op("groups.pause", folder="family"),
            "agent": lambda d, _: d.agent("update_group", folder="family", paused=True),
        }
    ),
    "resume a group": Act(
        {
            "chat": lambda d, _: d.say("/resume family"),
            "op": lambda d, _: d.op("groups.resume", folder="family"),
            "agent": lambda d, _: d.agent("update_group", folder="family", paused=False),
        },
        paused,
    ),
    "let a group go on that was held back": Act(
        {
            "chat": lambda d, _: d.say("/resume family"),
            "op": lambda d, _: d.op("groups.resume", folder="family"),
        },
        held_back,
    ),
    "resume a group that was paused and held back": Act(
        {
            "chat": lambda d, _: d.say("/resume family"),
            "op": lambda d, _: d.op("groups.resume", folder="family"),
        },
        paused_and_held_back,
    ),
    "stop": Act(
        {
            "chat": lambda d, _: d.say("/stop"),
            "op": lambda d, _: d.op("groups.stop", folder="main"),
        }
    ),
    "begin a new conversation": Act({"chat": lambda d, _: d.say("/new")}),
    "shorten the conversation": Act({"chat": lambda d, _: d.say("/compact")}, a_conversation),
    "answer one more chat as a group": Act(
        {
            "op": lambda d, _: d.op("groups.add", chat=SEEN, folder="family", name="The Club"),
        }
    ),
    "rename a group": Act(
        {"agent": lambda d, _: d.agent("update_group", folder="family", name="Kin")}
    ),
    "say what a group answers": Act(
        {
            "op": lambda d, _: d.op("groups.set", folder=FAMILY, key="answers", value="reply"),
            "agent": lambda d, _: d.agent("update_group", folder=FAMILY, answers="reply"),
        }
    ),
    "choose main's chat": Act({"op": lambda d, _: d.op("groups.main", chat=SEEN)}),
    "set a value": Act(
        {"op": lambda d, _: d.op("groups.set", folder="family", key="egress", value="none")}
    ),
    "remove a mount": Act(
        {"op": lambda d, _: d.op("groups.unmount", folder="family", name="photos")}, a_mount
    ),
    "add a host": Act(
        {"agent": lambda d, _: d.approved("request_host", host="example.org")}, but=ASKED
    ),
    "add a tool": Act(
        {"agent": lambda d, _: d.approved("request_tool", tool="web_search")}, but=ASKED
    ),
    "change a task": Act(
        {"agent": lambda d, task: d.agent("update_task", task_id=task, prompt="feed the cat")},
        a_task,
    ),
    "remember": Act(
        {
            "agent": lambda d, _: d.agent("remember", text="x"),
            "op": lambda d, _: d.op("memory.add", text="x"),
        },
        follows=False,
    ),
    "change a memory": Act(
        {"op": lambda d, id: d.op("memory.edit", memory=id, text="y")}, a_memory, follows=False
    ),
    "forget": Act(
        {
            "agent": lambda d, id: d.agent("forget", memory_id=id),
            "op": lambda d, id: d.op("memory.delete", memory=id),
        },
        a_memory,
        follows=False,
    ),
    "say something": Act({"agent": lambda d, _: d.agent("send_message", text="x")}, audited=0),
    "react": Act({"agent": lambda d, _: d.agent("react", emoji="👍")}, audited=0),
    "ask": Act({"agent": lambda d, _: d.agent("ask_user", question="Tea?")}, audited=0),
    "delegate": Act({"agent": lambda d, _: d.agent("delegate", prompt="count")}, audited=0),
    "change the model": Act(
        {
            "chat": lambda d, _: d.say("/model opus"),
            "op": lambda d, _: d.op("groups.set", folder="main", key="model", value="opus"),
            "agent": lambda d, _: d.agent("update_group", folder="main", model="opus"),
        }
    ),
    "say to whom a group listens": Act(
        {
            "op": lambda d, _: d.op("groups.allow", folder="family", senders="+491701234567"),
            "agent": lambda d, _: d.agent("update_group", folder="family", allowed_senders=[ANNA]),
        }
    ),
    "register a group": Act(
        {
            "op": lambda d, _: d.op("groups.add", chat=SEEN, folder="club", name="Club"),
            "agent": lambda d, _: d.approved(
                "register_group", chat=SEEN, folder="club", name="Club"
            ),
        },
        but=ASKED,
    ),
    "remove a group": Act(
        {
            "op": lambda d, _: d.op("groups.remove", folder="family"),
            "agent": lambda d, _: d.agent("unregister_group", folder="family"),
        }
    ),
    "add a mount": Act(
        {
            "op": lambda d, _: d.op("groups.mount", folder="main", path="/srv/photos"),
            "agent": lambda d, _: d.approved("request_mount", path="/srv/photos"),
        },
        but=ASKED,
    ),
    "schedule a task": Act(
        {
            "op": lambda d, _: d.op(
                "tasks.add", group="family", prompt="water", kind="interval", value="3600"
            ),
            "agent": lambda d, _: d.agent(
                "schedule_task", prompt="water", target_group="family", **HOURLY
            ),
        }
    ),
    "pause a task": Act(
        {
            "op": lambda d, task: d.op("tasks.pause", task=task),
            "agent": lambda d, task: d.agent("pause_task", task_id=task),
        },
        a_task,
    ),
    "resume a task": Act(
        {
            "op": lambda d, task: d.op("tasks.resume", task=task),
            "agent": lambda d, task: d.agent("resume_task", task_id=task),
        },
        a_task_that_rests,
    ),
    "run a task": Act(
        {
            "op": lambda d, task: d.op("tasks.run", task=task),
            "agent": lambda d, task: d.agent("run_task_now", task_id=task),
        },
        a_task,
    ),
    "cancel a task": Act(
        {
            "op": lambda d, task: d.op("tasks.remove", task=task),
            "agent": lambda d, task: d.agent("cancel_task", task_id=task),
        },
        a_task,
    ),
    "approve": Act(
        {
            "chat": lambda d, code: d.say(f"/approve {code}"),
            "op": lambda d, code: d.op("approve", code=code),
        },
        a_request,
        audited=2,  # the decision, and what it lets be done
    ),
    "deny": Act(
        {
            "chat": lambda d, code: d.say(f"/deny {code}"),
            "op": lambda d, code: d.op("deny", code=code),
        },
        a_request,
    ),
}

#: What only one door has, besides the act: an answer in the chat, a request and its end.
BESIDES = {"approval asked", "approved"}


async def through(act: Act, door: str) -> tuple[dict[str, list[Any]], list[Any], Effects]:
    there = Doors()
    made = await act.before(there)
    there.followed, before = NOTHING, len(there.audit())
    await act.doors[door](there, made or "")
    effects = there.followed
    if len(act.doors) > 1:  # an answer in the chat is the chat's alone
        effects = attrs.evolve(effects, speaks=False)
    if act.but is ASKED:  # who asked is woken, and requests expire
        effects = attrs.evolve(effects, look=(), schedules=False)
    rows = there.audit()[before:]
    if act.but is ASKED:
        rows = [row for row in rows if row[0] not in BESIDES]
    tables = there.rows(act.but)
    for name, found in tables.items():
        tables[name] = [tuple(pair for pair in row if pair[0] != "reason") for row in found]
    return tables, rows, effects


@pytest.mark.parametrize("name", sorted(ACTS))
async def test_an_act_is_the_same_through_every_door(name: str) -> None:
    act = ACTS[name]
    first, *others = sorted(act.doors)
    rows, audited, effects = await through(act, first)
    assert len(audited) == act.audited, "each act leaves one row"
    assert bool(effects) == act.follows
    for door in others:
        again = await through(act, door)
        assert again[0] == rows, door
        assert again[1] == audited, door
        assert again[2] == effects, door


async def test_what_a_group_answers_is_one_setting() -> None:
    there = Doors()
    for value in ("mention", "all", "reply", "all", ""):
        await there.op("groups.set", folder=FAMILY, key="answers", value=value)
        family = groups.get(there.db, FAMILY)
        assert family is not None
        assert family.answers == (value or "name")
        assert family.requires_trigger == (value != "all")
    for folder, value in ((FAMILY, "some"), (MAIN, "reply")):
        with pytest.raises(OpFailed):
            await there.op("groups.set", folder=folder, key="answers", value=value)
    await there.agent("update_group", folder=FAMILY, requires_trigger=False)
    assert "answers: all" in await there.agent("list_groups")


async def test_a_group_is_told_of_its_own_budget_and_main_of_everybodys() -> None:
    there = Doors()
    costs = usage_act.Terms(
        "sonnet", "UTC", lambda: Budget(all_money=9_000_000, day_money=5_000_000)
    )
    for folder in (FAMILY, MAIN):
        chat = groups.chats_of(there.db, folder)[0]
        group = groups.get(there.db, folder)
        assert group is not None
        for command in ("/status", "/usage", "/model"):
            said = Message(chat, "M", SenderId("console:me"), "me", NOON, command, from_me=True)
            order = commands.parse(said, group)
            assert order is not None
            asked = Asked(command=order, message=said, group=group, refusal=None)
            command_handlers.carry_out(Tx(there.db, NOON, there.new_id), asked, costs=costs)
            told = str(there.outbox()[-1]["text"])
            assert "$5.00 left" in told
            assert ("$9.00 left" in told) == (folder == MAIN)


async def test_what_was_used_is_the_same_at_every_door() -> None:
    there = Doors()
    identity = RunIdentity(RunId("a" * 16), MAIN, "t")
    today, yesterday = (spell(after(NOON, -24 * 3600.0 * n), "UTC")[:10] for n in (0, 1))
    for day, at in ((today, NOON), (yesterday, after(NOON, -6 * 3600.0))):
        tx = Tx(there.db, at)
        reserved = ledger.reserve(tx, identity, Wanted("claude-sonnet-5", 1000, 1000), day=day)
        assert isinstance(reserved, Reserved)
        usage = Usage(input=10, output=500, cache_read=90_000, cache_write=9_000)
        ledger.settle(tx, reserved, usage)
    [line] = await there.op("usage", days=1)
    assert line["day"] == today
    told = sum(line[kind] for kind in ("input", "output", "cache_read", "cache_write"))
    assert told == 99_510
    assert f"Today: 1 calls, {told} tokens, ${line['cost']:.2f}." in await there.say("/usage")
    same = f"1 calls, {told} tokens, ${line['cost']:.2f}"
    assert await there.agent("get_usage", days=1) == "\n".join(
        (f"{today} {line['model']}: {same}", f"together: {same}")
    )
    both = (await there.agent("get_usage", days=2, scope="global")).splitlines()
    assert [words.split()[0] for words in both] == [today, yesterday, "together:"]
    assert both[0].startswith(f"{today} main ")
    bill = await there.op("bill")
    assert bill["today"]["used"] == line["cost"]
    for command in ("/status", "/usage", "/model"):
        said = await there.say(command)
        assert bill["words"]["today"] in said
        assert bill["words"]["message"] in said
        assert bill["words"]["model"] in said or command == "/usage"
    family = Actor("agent", "agent of family", folder=GroupId("family"))
    with pytest.raises(Refused, match="only main may see"):
        usage_act.used(Tx(there.db, NOON), family, None, days=1, timezone="UTC")


async def _shown(there: Doors) -> dict[str, tuple[object, str]]:
    found = await there.op("groups.show", folder=FAMILY)
    return {each["key"]: (each["value"], each["source"]) for each in found["settings"]}


async def test_what_holds_for_a_group_is_shown_with_where_it_comes_from() -> None:
    there = Doors()
    assert (await _shown(there))["model"] == (None, "default")
    await there.op("groups.set", folder=FAMILY, key="model", value="opus")
    await there.op("groups.set", folder=FAMILY, key="budget.day_dollars", value="0")
    shown = await _shown(there)
    assert shown["model"] == ("opus", "this group")
    assert shown["budget.day_dollars"] == (None, "this group")  # no limit
    await there.op("groups.set", folder=FAMILY, key="model")
    assert (await _shown(there))["model"] == (None, "default")
    with pytest.raises(OpFailed, match="is not a group"):
        await there.op("groups.show", folder="nosuch")


@pytest.mark.parametrize("name", ["two words", "o\npus", "x" * 101, "s\u00f6nnet"])
async def test_an_odd_name_of_a_model_is_refused(name: str) -> None:
    there = Doors()
    with pytest.raises(OpFailed, match="no name of a model; examples: opus"):
        await there.op("groups.set", folder=FAMILY, key="model", value=name)
    assert groups.model_of(there.db, GroupId(FAMILY)) is None


async def test_a_model_that_the_group_may_not_use_is_refused() -> None:
    there = Doors()
    await there.op("groups.set", folder=FAMILY, key="models", value="claude-haiku-4-5")
    with pytest.raises(OpFailed, match="may use claude-haiku-4-5 alone"):
        await there.op("groups.set", folder=FAMILY, key="model", value="opus")
    await there.op("groups.set", folder=FAMILY, key="model", value="claude-haiku-4-5")
    assert groups.model_of(there.db, GroupId(FAMILY)) == "claude-haiku-4-5"


async def test_usage_of_no_group_is_refused() -> None:
    there = Doors()
    assert await there.op("usage", group=FAMILY) == []
    with pytest.raises(OpFailed, match="is not a group"):
        await there.op("usage", group="nosuch")


@pytest.mark.parametrize(
    ("kind", "written", "understood"),
    [
        ("interval", "every 1 day", "86400"),
        ("cron", "@daily", "0 0 * * *"),
        ("interval", "60", "60"),
    ],
)
async def test_a_schedule_is_taken_as_people_write_it(
    kind: str, written: str, understood: str
) -> None:
    there = Doors()
    made = await there.op("tasks.add", group=FAMILY, prompt="water", kind=kind, value=written)
    assert (made["kind"], made["value"]) == (kind, understood)
    with pytest.raises(OpFailed, match="has no time; example: tomorrow 8:00"):
        await there.op("tasks.add", group=FAMILY, prompt="x", kind="once", value="tomorrow")
