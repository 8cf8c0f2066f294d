"""Commands from a real folder to their answers, with a real store, an honest agent and hostile ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

from pynchy.actions.effects import Effects
from pynchy.files.changes import open_watch
from pynchy.ipc import errors, files, watcher
from pynchy.ipc.files import FILE_LIMIT
from pynchy.ipc.spool import SCAN_LIMIT, BrokenSpool, Scan, Spool
from pynchy.model import ChatId, GroupId, Message, Micros, RunId, SenderId, Staged, Unfit
from pynchy.reader_budget import Account, account_here, charged_to
from pynchy.store import audit, claims, groups, messages, outbox, runs, turns
from pynchy.store.connection import Connection, StoreBroken
from pynchy.store.database import Opened, Store, Tx, open_memory
from pynchy_agent import wire
from pynchy_agent.wire import Answer, Command, encode_command

NOON = Micros(1_700_000_000_000_000)
FAMILY = GroupId("family")
CHAT = ChatId("1203@g.us")
RUN = RunId("a" * 16)
SECRET = b"canary-7f3a"


@attrs.define(eq=False)
class House:
    """A group in the middle of a turn, and its folders on a real disk."""

    root: Path
    db: Connection
    store: Store
    inbox: watcher.Inbox
    commands: watcher.CommandService
    answers: deque[Answer] = attrs.field(factory=deque)
    rung: list[Effects] = attrs.field(factory=list)
    more: trio.Event = attrs.field(factory=trio.Event)
    count: int = 0

    def put(self, name: str, args: dict[str, Any], *, number: int | None = None) -> str:
        """What an honest agent does."""
        self.count += 1
        command_id = f"{self.count if number is None else number:032x}"
        aside = self.inbox.commands / f".{command_id}.tmp"
        aside.write_bytes(encode_command(Command(name, args)))
        aside.rename(self.inbox.commands / f"{command_id}.json")
        return command_id

    async def answered(self, count: int = 1) -> list[Answer]:
        with trio.fail_after(20):
            while len(self.answers) < count:
                self.more = trio.Event()
                await self.more.wait()
        return list(self.answers)

    def said(self) -> list[str]:
        return [row["text"] for row in self.db.query("SELECT text FROM outbox ORDER BY id")]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.inbox.commands.iterdir())

    def kept(self) -> list[bytes]:
        folder = self.inbox.errors
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.exists() else []

    def audited(self) -> dict[str, int]:
        lines = audit.recent(self.db)
        counts = {line["action"]: line["detail"]["count"] for line in lines}
        assert len(counts) == len(lines), "one line for each kind"
        assert {line["folder"] for line in lines} <= {FAMILY}
        return counts

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.more.set()

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        async with (
            self.serving(),
            self.commands.open(self.inbox, RUN, answer=self.answer),
        ):
            yield

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[trio.Nursery]:
        """The service, for the length of the block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.commands.run)
            yield nursery
            nursery.cancel_scope.cancel()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    db = open_memory()
    groups.ensure_main(Tx(db, NOON), name="Main", trigger="Pynchy")
    groups.register(
        Tx(db, NOON),
        folder=FAMILY,
        name="Family",
        chats=(CHAT,),
        trigger="Pynchy",
        requires_trigger=False,
    )
    message = Message(
        chat=CHAT,
        id="A1",
        sender=SenderId("ann"),
        sender_name="Ann",
        sent_at=NOON,
        text="hello",
    )
    messages.receive(Tx(db, NOON), message)
    runs.begin(
        Tx(db, NOON), runs.RunStart(run=RUN, folder=FAMILY, kind="session", container="c", boot="b")
    )
    ids = iter(range(1, 1 << 40))

    def new_id() -> str:
        return f"{next(ids):032x}"

    assert claims.claim(Tx(db, NOON, new_id), RUN) is not None
    run_sync = trio.to_thread.run_sync
    store = Store(Opened(db), run_sync, now=lambda: NOON, new_id=new_id)  # type: ignore[arg-type]  # as `open_store` casts it
    rung: list[Effects] = []
    inbox = watcher.Inbox(
        folder=FAMILY,
        commands=tmp_path / "data" / "ipc" / FAMILY / "commands",
        work=tmp_path / "groups" / FAMILY,
        outgoing=tmp_path / "data" / "outgoing" / FAMILY,
        errors=tmp_path / "data" / "errors" / FAMILY,
    )
    inbox.commands.mkdir(parents=True)
    inbox.work.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(SECRET)
    commands = watcher.CommandService(store, rung.append)
    yield House(tmp_path, db, store, inbox, commands, rung=rung)
    db.close()


# --- an honest agent -----------------------------------------------------------------------------


async def test_a_command_is_carried_out_answered_and_removed(house: House) -> None:
    async with house.live():
        command_id = house.put("send_message", {"text": "one moment"})
        [answer] = await house.answered()
    assert answer == Answer(id=command_id, ok=True, text="sent to the chat")
    assert house.said() == ["one moment"]
    assert house.left() == []
    assert [effects.speaks for effects in house.rung] == [True]
    assert house.audited() == {}


async def test_commands_are_taken_in_the_order_of_their_names(house: House) -> None:
    for number in (3, 1, 2):  # there before anybody looks
        house.put("send_message", {"text": str(number)}, number=number)
    async with house.live():
        await house.answered(3)
    assert house.said() == ["1", "2", "3"]


async def test_what_is_being_written_is_left_alone(house: House) -> None:  # invariant 167
    aside = house.inbox.commands / ".aside.tmp"
    async with house.live():
        aside.write_bytes(b"{")
        house.put("send_message", {"text": "x"})
        await house.answered()
        assert aside.exists()
    assert house.said() == ["x"]


async def test_a_refusal_says_why(house: House) -> None:
    async with house.live():
        house.put("register_everything", {})
        house.put("send_message", {"text": "x", "groupFolder": "main"})  # threat I1
        refusals = await house.answered(2)
    assert [answer.text for answer in refusals] == [
        "there is no command 'register_everything'",
        "send_message: groupFolder: unknown; known: text, sender, reply_to",
    ]
    assert house.said() == []
    assert house.audited() == {"command refused: forbidden": 1}


@pytest.mark.parametrize("times", [watcher.FORGIVEN["misfit"], watcher.FORGIVEN["misfit"] + 1])
async def test_wrong_arguments_count_against_a_run_only_when_repeated(
    house: House, times: int
) -> None:
    async with house.live():
        for number in range(1, times + 1):
            house.put("recall", {"query": "cat", "limit": "three"}, number=number)
        answers = await house.answered(times)
    assert all("limit: expected a whole number" in answer.text for answer in answers)
    counted = {"command refused: misfit": times} if times > watcher.FORGIVEN["misfit"] else {}
    assert house.audited() == counted


async def test_the_watch_hears_many_commands_at_once(house: House) -> None:
    async with house.live():
        for number in range(100):
            house.put("react", {"emoji": "👍"}, number=number)
        await house.answered(100)
    assert len(house.said()) == 100
    assert house.left() == []


# --- crashes -------------------------------------------------------------------------------------


async def test_what_was_left_by_a_crash_is_done_at_the_next_start(house: House) -> None:
    house.put("send_message", {"text": "before the crash"})  # invariants 169, 170
    (house.inbox.commands / ".half.tmp").write_bytes(b"{")
    assert await house.commands.sweep(house.inbox, RUN) == 1
    assert house.said() == ["before the crash"]
    assert house.left() == []


async def test_a_command_that_was_done_before_the_crash_is_not_done_again(house: House) -> None:
    house.put("send_message", {"text": "once"})
    content = (house.inbox.commands / f"{1:032x}.json").read_bytes()
    async with house.live():
        await house.answered()
        (house.inbox.commands / f"{1:032x}.json").write_bytes(content)  # as if never removed
        first, again = await house.answered(2)
    assert first == again
    assert house.said() == ["once"]
    assert len(house.rung) == 1


async def test_a_run_begins_and_ends_with_an_empty_folder(house: House) -> None:
    # invariant 87
    house.put("send_message", {"text": "an earlier run's"})
    async with house.commands.swept(house.inbox, RunId("b" * 16)):
        assert house.left() == []
        assert house.said() == ["an earlier run's"]  # attributed to it
        house.put("send_message", {"text": "too late, but said"})
    assert house.left() == []


async def test_a_cancelled_run_is_swept_all_the_same(house: House) -> None:
    with trio.CancelScope() as scope:
        async with house.commands.swept(house.inbox, RUN):
            house.put("send_message", {"text": "x"})
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert house.said() == ["x"]
    assert house.left() == []


async def test_trouble_with_one_runs_folder_ends_that_run_alone(house: House) -> None:
    class Breaks(Spool):
        def scan(self) -> Scan:
            raise BrokenSpool("the disk is gone")

    @contextmanager
    def opened(path: Path) -> Iterator[Spool]:
        fd = os.open(path, os.O_RDONLY)
        try:
            yield Breaks(fd, open_watch)
        finally:
            os.close(fd)

    other = house.root / "other"
    other.mkdir()
    breaks = attrs.evolve(house.inbox, commands=other, open_spool=opened)
    ended = trio.Event()

    async def broken() -> None:
        with trio.fail_after(20), pytest.raises(ExceptionGroup) as caught:
            async with house.commands.open(breaks, RunId("b" * 16), answer=house.answer):
                await trio.sleep_forever()
        assert isinstance(caught.value.exceptions[0], BrokenSpool)
        ended.set()

    async with (
        house.serving() as nursery,
        house.commands.open(house.inbox, RUN, answer=house.answer),
    ):
        nursery.start_soon(broken)
        await ended.wait()
        house.put("send_message", {"text": "still served"})
        await house.answered()
    assert house.said() == ["still served"]


async def test_a_store_that_cannot_be_used_ends_the_service(house: House) -> None:
    house.put("send_message", {"text": "x"})

    class Broken:
        async def call(self, *_: object, **__: object) -> None:
            raise StoreBroken("the disk is gone")

    house.commands.store = Broken()  # type: ignore[assignment]
    with trio.fail_after(20), pytest.raises(ExceptionGroup) as caught:
        async with house.live():
            await trio.sleep_forever()
    assert caught.value.subgroup(StoreBroken) is not None


async def test_what_commands_cost_is_charged_to_their_run(house: House) -> None:
    charged: list[Account] = []

    def answer(answer: Answer) -> None:
        charged.append(account_here())
        house.answer(answer)

    async with house.serving():
        account = Account()
        with charged_to(account):
            async with house.commands.open(house.inbox, RUN, answer=answer):
                house.put("send_message", {"text": "x"})
                await house.answered()
    assert charged == [account]


# --- hostile agents ------------------------------------------------------------------------------


async def test_bad_files_are_answered_kept_and_removed(house: House) -> None:  # invariant 172
    bad = {
        1: b'{"type":"send_message","args":{"text":"x"},"text":"x"}',
        2: b"\xff\xfe",
        3: b"x" * (wire.MAX_COMMAND + 1),
    }
    for number, data in bad.items():
        (house.inbox.commands / f"{number:032x}.json").write_bytes(data)
    (house.inbox.commands / f"{4:032x}.json").symlink_to(house.root / "secret")  # threat L1
    (house.inbox.commands / f"{5:032x}.json").hardlink_to(house.root / "secret")  # threat L2
    os.mkfifo(house.inbox.commands / f"{6:032x}.json")  # threat L3
    (house.inbox.commands / f"{7:032x}.json").mkdir()  # threat L5
    house.put("send_message", {"text": "still served"}, number=8)
    async with house.live():
        answers = await house.answered(8)
    assert [answer.ok for answer in answers] == [False] * 7 + [True]
    assert house.said() == ["still served"]
    assert house.left() == []
    kept = house.kept()
    assert len(kept) == 7
    assert kept[1] == b"not UTF-8 at byte 0\n\xff\xfe"
    assert all(len(each) <= wire.MAX_COMMAND + 1001 for each in kept)
    assert SECRET not in b"".join(kept)
    assert (house.root / "secret").read_bytes() == SECRET
    assert house.audited() == {"command refused: bad file": 7}  # one line, not one for each
    assert "canary" not in "\n".join(house.db.iterdump())


async def test_bad_files_are_kept_in_bounds(house: House) -> None:
    for number in range(300):
        (house.inbox.commands / f"{number:032x}.json").write_bytes(b"{}")
    assert await house.commands.sweep(house.inbox, RUN) == 300
    assert len(house.kept()) == watcher.KEPT_PER_RUN
    for number in range(150):
        errors.keep(house.inbox.errors, name=f"{number:032x}.json", reason="x", head=b"")
    assert len(house.kept()) == errors.MOST
    assert house.audited() == {"command refused: bad file": 300}


async def test_a_name_of_an_error_is_never_the_agents(house: House) -> None:
    with pytest.raises(ValueError, match="no name of a command"):
        errors.keep(house.inbox.errors, name="../../x", reason="x", head=b"")


async def test_more_entries_than_a_scan_looks_at_do_not_hide_a_command(
    house: House,
) -> None:  # threat L7
    folder = os.open(house.inbox.commands, os.O_RDONLY)
    try:
        for number in range(2 * SCAN_LIMIT):
            os.close(os.open(f"n{number}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))
    finally:
        os.close(folder)
    house.put("send_message", {"text": "found"})
    async with house.live():
        [answer] = await house.answered()
        assert answer.ok
    assert house.said() == ["found"]
    assert house.audited()["command refused: overfull"] >= 1


async def test_a_folder_that_cannot_be_emptied_is_deleted_and_made_anew(house: House) -> None:
    # threats L5, L11, L12
    mode = house.inbox.commands.stat().st_mode
    for life in range(3):
        deep = house.inbox.commands / f"{1:032x}.json"
        (deep / "x").mkdir(parents=True)
        (deep / "x" / "fill").write_bytes(bytes(1 << 20))
        house.put("send_message", {"text": f"x{life}"}, number=2 + life)
        assert await house.commands.sweep(house.inbox, RUN) == 2
        assert house.left() == []
        # Nothing grows beside it, where no quota would count it.
        assert [each.name for each in house.inbox.commands.parent.glob("commands*")] == ["commands"]
    assert house.said() == ["x0", "x1", "x2"]
    assert house.inbox.commands.stat().st_mode == mode
    broken = [row for row in audit.recent(house.db) if row["action"].endswith("broken")]
    assert len(broken) == 3


@pytest.mark.parametrize("what", ["link", "file", "nothing"])
async def test_a_broken_folder_is_not_swept_and_stops_nobody(house: House, what: str) -> None:
    house.inbox.commands.rmdir()  # threat L6
    if what == "link":
        trap = house.root / "trap"
        trap.mkdir()
        (trap / f"{1:032x}.json").write_bytes(encode_command(Command("react", {"emoji": "👍"})))
        house.inbox.commands.symlink_to(trap)
    elif what == "file":
        house.inbox.commands.write_bytes(b"")
    assert await house.commands.sweep(house.inbox, RUN) == 0
    assert house.said() == []
    if what == "link":
        assert len(list((house.root / "trap").iterdir())) == 1


async def test_a_command_that_breaks_the_host_is_one_commands_trouble(house: House) -> None:
    house.db.execute("DROP TABLE journal")
    house.put("send_message", {"text": "x"})
    async with house.live():
        [answer] = await house.answered()
        assert not answer.ok
        assert answer.text == "the host failed at this command; nothing was done"
    assert house.said() == []
    assert house.left() == []


FLOODER = """
import os, sys
os.chdir(sys.argv[1])
number = 0
while os.getppid() != 1:
    number += 1
    name = f"{number:032x}.json"
    try:
        if number % 4 == 0: os.symlink("/etc/passwd", name)
        elif number % 4 == 1: open(name, "wb").write(b"[" * 1000)
        elif number % 4 == 2: open("tmp", "wb").write(b'{"type":"x","args":{}}'); os.rename("tmp", name)
        else: open(f"noise{number % 50}", "wb").write(b"x")
    except OSError: pass
"""


async def test_a_flood_never_holds_the_loop(house: House) -> None:  # threat X5
    """Somebody writes rubbish as fast as they can; the daemon goes on as if nothing happened."""
    flooder = subprocess.Popen([sys.executable, "-c", FLOODER, house.inbox.commands])
    held = 0.0
    spent = time.process_time()
    try:
        async with house.live():
            began = trio.current_time()
            while (moment := trio.current_time()) < began + 2.0:
                await trio.sleep(0.005)
                held = max(held, trio.current_time() - moment - 0.005)
            spent = time.process_time() - spent
    finally:
        flooder.kill()
        flooder.wait()
    sys.stderr.write(f"held at most {held * 1000:.0f} ms, {spent / 2:.0%} of a processor\n")
    assert held < 5.0  # a guard; the figure is what counts
    assert len(house.answers) > 0
    assert set(house.audited()) <= {
        f"command refused: {kind}"
        for kind in ("bad file", "forbidden", "flood", "overfull", "misfit")
    }


class _Steps(trio.abc.Instrument):
    """Counts how often the loop went on to another task."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_no_step_of_the_loop_takes_two_files(house: House) -> None:  # threat X5
    """Of a folder full of rubbish, too, when it is swept and nothing slows it down."""
    for number in range(300):
        (house.inbox.commands / f"{number:032x}.json").write_bytes(b"[" * 1000)
    steps, taken = _Steps(), list[int]()

    class Slow(Spool):
        def read(self, name: str) -> bytes | None:
            taken.append(steps.count)
            return super().read(name)

    @contextmanager
    def opened(path: Path) -> Iterator[Spool]:
        fd = os.open(path, os.O_RDONLY)
        try:
            yield Slow(fd, open_watch)
        finally:
            os.close(fd)

    trio.lowlevel.add_instrument(steps)
    try:
        await house.commands.sweep(attrs.evolve(house.inbox, open_spool=opened), RUN)
    finally:
        trio.lowlevel.remove_instrument(steps)
    assert len(taken) == 300
    assert len(set(taken)) == 300


# --- files ---------------------------------------------------------------------------------------


async def stage(house: House, path: str) -> Staged | Unfit:
    return await files.stage(path, work=house.inbox.work, outgoing=house.inbox.outgoing)


async def test_a_file_is_copied_before_it_is_sent(house: House) -> None:
    (house.inbox.work / "pictures").mkdir()
    picture = house.inbox.work / "pictures" / "cat.png"
    picture.write_bytes(b"cat")
    async with house.live():
        house.put("send_file", {"path": "/workspace/group/pictures/cat.png", "caption": "a cat"})
        [answer] = await house.answered()
    assert answer.text == "cat.png (3 bytes) was sent to the chat"
    [row] = house.db.query("SELECT * FROM outbox")
    copy = Path(row["path"])
    assert copy.is_relative_to(house.inbox.outgoing)
    picture.write_bytes(b"dog")
    assert copy.read_bytes() == b"cat"
    assert copy.stat().st_mode & 0o777 == 0o600
    await house.commands.sweep(house.inbox, RUN)
    assert copy.exists()  # still to be sent
    assert outbox.take(Tx(house.db, NOON), row["id"]) is not None
    outbox.sent(Tx(house.db, NOON), row["id"])
    await house.commands.sweep(house.inbox, RUN)
    assert list(house.inbox.outgoing.iterdir()) == []  # sent: the copy is gone


async def test_a_refused_file_leaves_no_copy(house: House) -> None:
    (house.inbox.work / "cat.png").write_bytes(b"cat")
    turns.cancel(Tx(house.db, NOON), FAMILY)
    async with house.live():
        house.put("send_file", {"path": "cat.png"})
        [answer] = await house.answered()
    assert not answer.ok
    assert not house.inbox.outgoing.exists() or not list(house.inbox.outgoing.iterdir())


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd", "only files of your own folder"),
        ("/workspace/groups/work/x", "only files of your own folder"),
        ("/workspace/group2/x", "only files of your own folder"),
        ("../../secret", "not followed"),
        ("a/../../../secret", "not followed"),
        ("/workspace/group/../../secret", "not followed"),
        ("", "no path of a file"),
        (".", "no path of a file"),
        ("/workspace/group", "no path of a file"),
        ("a\0b", "no path of a file"),
        ("x" * 300, "too long"),
        ("a/" * 40 + "x", "too long"),
        ("nowhere", "no such file"),
        ("link", "it is a link"),
        ("folder", "it is a folder"),
        ("to-root/secret", "a link or no folder"),
        ("folder/up/secret", "a link or no folder"),
        ("hard", "more than one name"),
        ("pipe", "not a plain file"),
        ("empty", "it is empty"),
        ("huge", "the limit is"),
        ("file/x", "a link or no folder"),
    ],
)
async def test_only_plain_files_of_the_own_folder_are_sent(
    house: House, path: str, why: str
) -> None:
    work = house.inbox.work  # threats L1, L2, L3, invariants 151, 152
    (work / "link").symlink_to(house.root / "secret")
    (work / "to-root").symlink_to(house.root)
    (work / "folder").mkdir()
    (work / "folder" / "up").symlink_to("../../..")
    (work / "hard").hardlink_to(house.root / "secret")
    os.mkfifo(work / "pipe")
    (work / "empty").write_bytes(b"")
    (work / "file").write_bytes(b"x")
    with (work / "huge").open("wb") as file:
        file.truncate(FILE_LIMIT + 1)
    refused = await stage(house, path)
    assert isinstance(refused, Unfit)
    assert why in refused.reason
    assert not house.inbox.outgoing.exists() or not list(house.inbox.outgoing.iterdir())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat.png", "cat.png"),
        ("..png", "png"),
        ("a\\b:c.png", "a_b_c.png"),
        ("\u202egnp.exe", "gnp.exe"),
        ("-rf", "-rf"),
        ("new\nline", "new line"),
        ("...", "file"),
        ("x" * 190 + "\u00e9" * 20 + ".png", None),
    ],
)
async def test_a_files_name_is_no_trouble_on_anybodys_disk(
    house: House, name: str, shown: str | None
) -> None:
    (house.inbox.work / name).write_bytes(b"x")
    staged = await stage(house, name)
    assert isinstance(staged, Staged)
    assert shown is None or staged.name == shown
    assert len(staged.name.encode()) <= 200
    assert Path(staged.path).parent.parent == house.inbox.outgoing
    files.drop(staged)
    assert list(house.inbox.outgoing.iterdir()) == []


async def test_copies_that_wait_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILES", SimpleNamespace(waiting=1000))
    (house.inbox.work / "x").write_bytes(b"x" * 400)
    assert isinstance(await stage(house, "x"), Staged)
    assert isinstance(await stage(house, "x"), Staged)
    full = await stage(house, "x")
    assert full == Unfit("too much waits to be sent already; try again later")


SWAPPER = """
import os, sys
work, secret = sys.argv[1:]
os.chdir(work)
os.mkdir("real"); open("real/x", "w").write("mine"); os.symlink(secret, "link")
print("ready", flush=True)
while os.getppid() != 1:
    os.rename("real", "way"); os.rename("way", "real")
    os.rename("link", "way"); os.rename("way", "link")
"""


async def test_no_race_on_the_way_to_a_file_is_won(house: House) -> None:  # threat L10
    trap = house.root / "trap"
    trap.mkdir()
    (trap / "x").write_bytes(SECRET)
    swapper = subprocess.Popen(
        [sys.executable, "-c", SWAPPER, house.inbox.work, trap], stdout=subprocess.PIPE
    )
    assert swapper.stdout is not None
    outcomes = set()
    try:
        assert swapper.stdout.readline() == b"ready\n"
        for _ in range(3_000):
            got = await stage(house, "way/x")
            if isinstance(got, Staged):
                assert Path(got.path).read_bytes() == b"mine"
                files.drop(got)
                outcomes.add("copied")
            else:
                outcomes.add(got.reason)
    finally:
        swapper.kill()
        swapper.wait()
        swapper.stdout.close()
    assert len(outcomes) >= 2, outcomes


def test_the_room_writes_only_where_no_container_can() -> None:  # threat L9, invariant 152
    """Everything that writes takes its path from `errors` or `outgoing`, which are never mounted."""
    import ast

    room = Path(watcher.__file__).parent
    writers = {"write_bytes", "write_text", "mkdir", "touch", "rename", "symlink_to", "hardlink_to"}
    found = set()
    for path in room.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in writers:
                    found.add((path.name, ast.unparse(node.func)))
                assert node.func.attr not in {"rmtree", "copy", "copyfile", "move", "resolve"}
    assert found == {
        ("errors.py", "folder.mkdir"),
        ("files.py", "folder.mkdir"),
        ("watcher.py", "commands.rename"),  # the folder itself, in a folder of ours,
        ("watcher.py", "commands.mkdir"),  # when no container is there
    }
