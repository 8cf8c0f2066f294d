"""Tools that write are killed before each single call to the file system: nothing is lost, and again is enough."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from pynchy.model import Micros
from pynchy.store import backup, groups, migrations
from pynchy.store.database import Tx, open_file
from tests.edges import old_stores
from tests.edges.test_belonging import count_in, die, log_of

#: Does one thing in one home after the other, killed before the first step in the first, before the second in
#: the next; ends with the one that is not killed. A step is a call to the file system.
KILLER = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from pynchy.config.paths import Home
what, template, top, stride = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
STEPS = {
    "open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.link", "os.truncate", "os.chmod",
    "os.chown", "shutil.rmtree", "shutil.copyfile", "sqlite3.connect",
}

def restore(home):
    from pynchy.store import backup
    backup.restore(home.root / "good.db", home.database, stamp="X", mark=home.store_mark)

def begin_anew(home):
    from pynchy.store import backup
    backup.begin_anew(home.database, stamp="X", mark=home.store_mark)

def copy(home):
    from pynchy.store import backup
    backup.write_copy(home.database, home.root / "good.db")

def export(home):
    from pynchy.moving import exporter
    exporter.write(home, home.root / "good.db", "main", home.root / "x.tar.gz", told=lambda name: None)

def upgrade(home):
    from pynchy.store.database import open_file
    open_file(home.database, mark=home.store_mark).close()

def settings(home):
    from pynchy.cli import edit
    edit.set_setting(home.config, "model", "offline", "true")
    edit.set_secret(home.env, "ANTHROPIC_API_KEY", "sk-new", instead_of=("CLAUDE_CODE_OAUTH_TOKEN",))

def bring(home):
    os.environ |= {"PYNCHY_HOME": str(home.root), "HOME": str(top), "TZ": "UTC"}
    from pynchy.cli.app import pynchy
    pynchy.main(["import", str(template.parent / "nanoclaw"), "--json"], standalone_mode=False)

def run(home, last):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    work = globals()[what]
    left = last
    def count(*_):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def audit(event, args):
        if event in STEPS and str(home.root) in str(args[0]) or event in STEPS and isinstance(args[0], int):
            count()
    sys.addaudithook(audit)
    sync = os.fsync
    os.fsync = lambda descriptor: (count(), sync(descriptor))[1]
    work(home)

for last in itertools.count(1, stride):
    home = Home(top / f"{last:04d}")
    shutil.copytree(template, home.root)
    child = os.fork()
    if child == 0:
        try:
            run(home, last)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status != signal.SIGKILL:
        sys.exit(os.waitstatus_to_exitcode(status))
"""


def killed(what: str, template: Path, *, stride: int = 1, least: int) -> Iterator[Home]:
    """The homes in which it was killed, and the last one, in which it was not."""
    top = template.parent / f"{what} killed"
    top.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLER, what, str(template), str(top), str(stride)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    homes = sorted(top.iterdir())
    assert len(homes) > least, homes
    yield from map(Home, homes)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A home whose daemon was killed: its newest rows are in the log alone. Beside it a good copy."""
    home = Home(tmp_path / "template")
    home.make()
    die(home, 0, 1)
    open_file(home.database, mark=home.store_mark).close()
    with closing(open_file(home.database, mark=home.store_mark)) as opened:
        groups.ensure_main(Tx(opened.connection, Micros(1)), name="Main", trigger="Pynchy")
    backup.write_copy(home.database, home.root / "good.db")
    die(home, 50, 51)
    open_file(
        home.database, mark=home.store_mark
    ).close()  # so the file alone is neither of the two
    die(home, 1, 21)
    assert log_of(home).stat().st_size
    return home.root


def start(home: Home) -> int:
    """A start after it: the messages that it has. It takes what is there for what it is."""
    open_file(home.database, mark=home.store_mark).close()
    assert backup.check(home.database)
    return count_in(home.database)


def test_a_restore_that_is_killed_at_any_step_loses_nothing(template: Path) -> None:
    seen = set()
    for home in killed("restore", template, least=15):
        kept = home.database.with_name("pynchy.db.before-X")
        has = start(home)
        if kept.exists():
            before = kept.stat().st_ino
            assert before != home.database.stat().st_ino, "who goes on with one changes the other"
            assert count_in(kept) == 22
        assert has == 22 or (has == 1 and kept.exists())
        seen.add(has)
        backup.restore(home.root / "good.db", home.database, stamp="Y", mark=home.store_mark)
        assert start(home) == 1
        assert not list(home.store.glob("*.part*"))
    assert seen == {1, 22}


def test_beginning_anew_that_is_killed_at_any_step_loses_nothing(template: Path) -> None:
    for home in killed("begin_anew", template, least=5):
        kept = home.database.with_name("pynchy.db.before-X")
        has = count_in(home.database) if home.database.exists() else 0
        assert has == 22 or count_in(kept) == 22
        start(home)


def test_a_copy_that_is_killed_at_any_step_leaves_the_one_before(template: Path) -> None:
    seen = []
    for home in killed("copy", template, least=5):
        assert backup.check(home.root / "good.db")
        seen.append(count_in(home.root / "good.db"))
        assert start(home) == 22
    assert seen == sorted(seen)  # the old one, and from some step on the new
    assert set(seen) == {1, 22}


def test_an_export_that_is_killed_at_any_step_leaves_the_one_before(template: Path) -> None:
    with tarfile.open(template / "x.tar.gz", "w:gz"):
        pass
    (template / "groups" / "main").mkdir()
    (template / "groups" / "main" / "note").write_text("hello")
    seen = []
    for home in killed("export", template, least=5):
        with tarfile.open(home.root / "x.tar.gz") as archive:
            seen.append(len(archive.getnames()))
        assert start(home) == 22
    assert seen[0] == 0
    assert seen[-1] == 5
    assert set(seen) == {0, 5}


def test_an_upgrade_that_is_killed_at_any_step_is_done_by_the_next(tmp_path: Path) -> None:
    template = Home(tmp_path / "template")
    template.make()
    old_stores.make(3, template.database)
    rows = count_in(template.database)
    for home in killed("upgrade", template.root, stride=4, least=5):
        assert start(home) == rows
        assert backup.check(home.database) == migrations.SCHEMA


def test_settings_that_are_written_are_the_old_or_the_new(template: Path) -> None:
    home = Home(template)
    home.config.write_text("# mine\n")
    home.env.write_text("CLAUDE_CODE_OAUTH_TOKEN=old\n")
    seen = set()
    for each in killed("settings", template, least=6):
        seen.add((each.config.read_text(), each.env.read_text()))
    new = "# mine\n\n[model]\noffline = true\n"
    old_env, new_env = "CLAUDE_CODE_OAUTH_TOKEN=old\n", "ANTHROPIC_API_KEY=sk-new\n"
    assert seen == {("# mine\n", old_env), (new, old_env), (new, new_env)}


def test_an_import_that_is_killed_is_completed_by_the_next(tmp_path: Path) -> None:
    from tests.edges.test_import import bring, database, files

    theirs = tmp_path / "nanoclaw"
    database(theirs, state=True, bot=True)
    files(theirs)
    template = Home(tmp_path / "template")
    template.make()
    whole = Home(tmp_path / "whole")
    bring(whole, theirs)

    def rows(home: Home) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(home.database)) as db:
            return [
                *db.execute("SELECT folder, name, trigger FROM groups ORDER BY folder"),
                *db.execute("SELECT chat, text FROM inbox ORDER BY chat, text"),
                *db.execute("SELECT folder, prompt, value FROM tasks ORDER BY folder, prompt"),
            ]

    def tree(home: Home) -> dict[str, bytes]:
        files = (path for path in home.groups.rglob("*") if path.is_file())
        return {str(path.relative_to(home.groups)): path.read_bytes() for path in files}

    for home in killed("bring", template.root, stride=17, least=5):
        bring(home, theirs)
        assert rows(home) == rows(whole)
        assert tree(home) == tree(whole)
        shutil.rmtree(home.root)
