"""A group taken elsewhere: all of it, nothing of another one, with the daemon up or down."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from pynchy.cli.app import pynchy
from pynchy.config.paths import Home
from pynchy.model import ChatId, GroupId, Message, Micros, SenderId
from pynchy.store import arrivals, groups, memory, messages
from pynchy.store.database import Database, Tx, open_store

FAMILY = GroupId("family")
CHAT = ChatId("console:family")
AT = Micros(1_700_000_000_000_000)


def fill(db: Database) -> None:
    for folder in ("family", "work"):
        groups.register(
            Tx(db, AT),
            folder=GroupId(folder),
            name=folder.title(),
            chats=(ChatId(f"console:{folder}"),),
            trigger="Pynchy",
            requires_trigger=False,
        )
        chat = ChatId(f"console:{folder}")
        message = Message(chat, "m1", SenderId("console:Ann"), "Ann", AT, f"hello {folder} ü")
        messages.receive(Tx(db, AT), message)
        arrivals.add_sent(Tx(db, Micros(AT + 1)), GroupId(folder), chat, f"o-{folder}", "good day")
        memory.remember(Tx(db, AT), GroupId(folder), f"{folder} likes tea", id=folder)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()

    async def make() -> None:
        async with open_store(home.database) as store:
            await store.call(fill)

    trio.run(make)
    work = home.group(FAMILY)
    (work / "conversations").mkdir(parents=True)
    (work / "CLAUDE.md").write_text("# Family\n")
    (work / "conversations" / "one.md").write_text("talk")
    (work / "key").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("a key of the host")
    home.media(FAMILY).mkdir(parents=True)
    (home.media(FAMILY) / "cat.jpg").write_bytes(b"\xff\xd8")
    return home


def export(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(pynchy, ["export", *arguments], env={"PYNCHY_HOME": str(home.root)})


def contents(path: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            assert member.isreg(), member.name
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    return found


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines()]


def test_all_of_a_group_and_of_no_other_is_in_the_archive(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "family.tar.gz"
    done = export(home, "family", str(path))
    assert done.exit_code == 0, done.output
    assert "2 messages, 3 files, 1 memories, 0 tasks" in done.output
    assert path.stat().st_mode & 0o777 == 0o600
    found = contents(path)
    assert sorted(found) == [
        "family/files/CLAUDE.md",
        "family/files/conversations/one.md",
        "family/group.json",
        "family/media/cat.jpg",
        "family/memory.jsonl",
        "family/messages.jsonl",
        "family/tasks.json",
    ]
    theirs, ours = lines(found["family/messages.jsonl"])
    assert (theirs["from"], theirs["text"]) == ("console:Ann", "hello family ü")
    assert (ours["from"], ours["text"], ours["chat"]) == (None, "good day", CHAT)
    assert theirs["at"] == "2023-11-14T22:13:20Z"
    assert json.loads(found["family/group.json"])["chats"] == [CHAT]
    assert [row["text"] for row in lines(found["family/memory.jsonl"])] == ["family likes tea"]
    assert b"work" not in b"".join(found.values())
    assert not list(home.store.glob("export-*"))


def test_a_group_that_is_none_leaves_nothing(home: Home, tmp_path: Path) -> None:
    done = export(home, "nobody", str(tmp_path / "x.tar.gz"))
    assert done.exit_code == 2
    assert "there is no group nobody" in done.output
    assert list(tmp_path.glob("x.tar.gz*")) == []
    assert export(home, "family", str(tmp_path)).exit_code == 2
    assert export(home, "family", str(tmp_path / "no" / "x.tar.gz")).exit_code == 1


def test_a_file_that_is_cut_meanwhile_costs_its_end_and_no_more(tmp_path: Path) -> None:
    from pynchy.moving.exporter import _add_pieces

    path = tmp_path / "file"
    path.write_bytes(b"12")
    header = tarfile.TarInfo("file")
    header.size = 4
    written = io.BytesIO()
    with path.open("rb") as file, tarfile.open(fileobj=written, mode="w") as archive:
        _add_pieces(archive, header, file, [(0, 4)])
    written.seek(0)
    with tarfile.open(fileobj=written) as archive:
        member = archive.extractfile("file")
        assert member is not None
        assert member.read() == b"12\0\0"
