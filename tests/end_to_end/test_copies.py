"""Copies of the database and archives of groups, as a person asks for them, with the daemon up and down."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from tests.end_to_end.house import HANG, environment, running
from tests.end_to_end.test_looking_in import asked


def said(home: Path, *argv: str, exits: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pynchy", *argv],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == exits, done.stdout + done.stderr
    return done.stdout + done.stderr


def refusals(root: Path, home: Home, *, code: int) -> None:
    """What would cost something is not done, and it is said why."""
    config, database = home.config.read_bytes(), home.database.read_bytes()[:100]
    for there in (home.config, home.database):
        assert "choose another name" in said(root, "backup", str(there), exits=code)
        assert "choose another name" in said(root, "export", "main", str(there), exits=2)
    nowhere = "/proc/nowhere/copy.db"
    assert nowhere in said(root, "backup", nowhere, exits=code)
    assert "directory" in said(root, "backup", str(home.logs), exits=code)
    assert (home.config.read_bytes(), home.database.read_bytes()[:100]) == (config, database)
    assert not list(home.store.glob("*.part"))
    assert not list(home.store.glob("export-*"))


def test_nothing_but_a_copy_is_replaced_by_a_copy(tmp_path: Path) -> None:
    root, home, copy = tmp_path / "home", Home(tmp_path / "home"), tmp_path / "copy.db"
    root.mkdir(mode=0o700)
    home.config.write_text("# mine\n")
    with running(root, "bwrap"):
        refusals(root, home, code=1)
        for _ in range(2):
            assert asked(root, "backup", str(copy))["path"] == str(copy)
        for command in (["restore", str(copy)], ["upgrade"]):
            assert "pynchy service stop" in said(root, *command, exits=75)
        assert asked(root, "upgrade", "--check")["problems"] == []
    refusals(root, home, code=73)
    assert "the database itself" in said(root, "restore", str(home.database), exits=2)
    assert "restored" in said(root, "restore", str(copy), exits=0)
    with running(root, "bwrap") as daemon, daemon.talk() as talk:
        assert "hello" in talk.ask("hello")


def test_a_database_that_cannot_be_copied_is_named_with_what_to_do(tmp_path: Path) -> None:
    root, home = tmp_path / "home", Home(tmp_path / "home")
    copying = [["backup"], ["upgrade", "--check"], ["export", "main", str(tmp_path / "x.tgz")]]
    with running(root, "bwrap"):
        pass
    with closing(sqlite3.connect(home.database)) as newer:
        newer.execute("PRAGMA user_version = 99")
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for command in [*copying, ["run", "--offline"]]:
        told = said(root, *command, exits=73)
        assert f"{home.database} has schema 99" in told
        assert "install the newer version" in told
    page = home.database.read_bytes()[:8192] + b"garbage" * 600
    home.database.write_bytes(page + home.database.read_bytes()[len(page) :])
    with closing(sqlite3.connect(home.database)) as old:
        old.execute("PRAGMA user_version = 1")
    for command in copying:
        assert "pynchy restore" in said(root, *command, exits=73)
    assert "pynchy doctor" in said(root, "run", "--offline", exits=73)


@pytest.mark.parametrize("up", [True, False])
def test_an_archive_takes_the_place_of_an_archive(tmp_path: Path, up: bool) -> None:
    root, archive = tmp_path / "home", tmp_path / "main.tar.gz"
    with running(root, "bwrap") as daemon:
        if not up:
            daemon.stop()
        for _ in range(2):
            assert asked(root, "export", "main", str(archive))["path"] == str(archive)


def test_a_database_that_is_gone_is_not_made_anew_until_somebody_says_so(tmp_path: Path) -> None:
    root, home = tmp_path / "home", Home(tmp_path / "home")
    with running(root, "bwrap") as daemon:
        asked(root, "groups", "add", "console:family")
        with daemon.talk() as talk:
            assert "hello" in talk.ask("hello")
        home.database.unlink()  # below it, while it runs
        said(root, "groups", "add", "console:chess", exits=4)  # and is not told that it is done
        assert daemon.process.wait(HANG) == 73
        assert daemon.process.stderr is not None
        told = daemon.process.stderr.read().decode()
        assert "was removed while pynchy ran; all it held is saved in" in told
    [rescued] = home.store.glob("pynchy.db.rescued-*")
    for command in (["run", "--offline"], ["upgrade"]):
        told = said(root, *command, exits=73)
        assert "is gone, and this home had one" in told
        assert "pynchy restore" in told
        assert not home.database.exists()
    assert "is gone" in said(root, "doctor", exits=1)
    assert "restored" in said(root, "restore", str(rescued), exits=0)
    with running(root, "bwrap"):
        assert "family" in [group["folder"] for group in asked(root, "groups", "list")]
    home.database.unlink()
    assert "empty" in said(root, "restore", "--empty", exits=0)
    with running(root, "bwrap"):
        assert "family" not in [group["folder"] for group in asked(root, "groups", "list")]
