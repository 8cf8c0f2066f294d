"""`pynchy import`: bring in a NanoClaw home, or one of an earlier Pynchy."""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pynchy.cli.client import STOP_FIRST, Failure, printable
from pynchy.config.paths import stamp_of
from pynchy.config.settings import Config
from pynchy.config.sources import ConfigError, from_environ
from pynchy.exits import Exit

if TYPE_CHECKING:
    from pynchy.moving.importer import Report
    from pynchy.moving.old_home import OldHome


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dry-run", is_flag=True, help="Say what would come over; change nothing.")
@click.option(
    "--allowlist",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The mount allowlist, if it is not in PATH or in ~/.config/nanoclaw.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(path: Path, dry_run: bool, allowlist: Path | None, as_json: bool) -> None:
    """Import the NanoClaw (or earlier Pynchy) home at PATH. The daemon must be down.

    PATH holds store/messages.db, data/ and groups/. Imported are groups with their files and
    conversations, messages, tasks and the mount allowlist. Unanswered messages are answered at the
    next start. Your files are not overwritten, and nothing at PATH is changed. The database is backed
    up first. Run it again to import only what is new.

    \b
    pynchy import ~/nanoclaw --dry-run
    pynchy import ~/nanoclaw
    """
    from pynchy.daemon.lock import AlreadyRunning, open_lock
    from pynchy.moving.importer import NoOldHome, read_home
    from pynchy.store.connection import StoreError

    try:
        config = from_environ(os.environ)
        old = read_home(path.absolute())
        place = allowlist or _allowlist(path)
        if dry_run:
            told = _rehearse(config, path, old, place)
        else:
            config.home.make()
            with open_lock(config.home.lock):
                told = _bring(config, path, old, place)
    except AlreadyRunning as error:
        raise Failure(f"{error}; {STOP_FIRST}", Exit.ALREADY_RUNNING) from None
    except ConfigError as error:
        raise Failure(str(error), Exit.CONFIG) from None
    except NoOldHome as error:
        raise click.UsageError(str(error)) from None
    except StoreError as error:
        raise Failure(str(error), Exit.STORE) from None
    told["dry_run"] = dry_run
    click.echo(json.dumps(told, indent=2) if as_json else printable(render(told)))


def _allowlist(path: Path) -> Path | None:
    name = "mount-allowlist.json"
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (
        path / name,
        path / "data" / name,
        config / "nanoclaw" / name,
        config / "pynchy" / name,
    )
    return next((place for place in places if place.is_file()), None)


def _bring(config: Config, path: Path, old: OldHome, allowlist: Path | None) -> dict[str, Any]:
    from pynchy.container import folders
    from pynchy.moving import importer
    from pynchy.store import backup

    home = config.home
    kept = None
    if backup.is_begun(home.database):
        kept = home.backups / f"before-import-{stamp_of(time.time())}.db"
        backup.write_copy(home.database, kept)
    files = importer.bring_files(path, home, old, dry=False)
    scaffold = partial(folders.scaffold, home)
    report = _write(config, home.database, old, scaffold, mark=home.store_mark)
    report.allowlist = importer.bring_allowlist(allowlist, home, dry=False)
    return _told(config, report, files, kept)


def _rehearse(config: Config, path: Path, old: OldHome, allowlist: Path | None) -> dict[str, Any]:
    """The same on a copy of the database that is thrown away, and without the files."""
    from pynchy.moving import importer
    from pynchy.store import backup

    home = config.home
    files = importer.bring_files(path, home, old, dry=True)
    with tempfile.TemporaryDirectory(prefix="pynchy-import-") as folder:
        copy = Path(folder, "store", "pynchy.db")
        if backup.is_begun(home.database):
            backup.write_copy(home.database, copy)
        report = _write(config, copy, old, lambda group: None)
    report.allowlist = importer.bring_allowlist(allowlist, home, dry=True)
    return _told(config, report, files, None)


def _write(
    config: Config, database: Path, old: OldHome, scaffold: Any, *, mark: Path | None = None
) -> Report:
    import trio

    from pynchy.moving import importer
    from pynchy.store.database import open_store

    async def write() -> Report:
        async with open_store(database, mark=mark) as store:
            return await store.call(
                importer.write,
                old,
                assistant=config.assistant.name,
                timezone=config.assistant.timezone,
                scaffold=scaffold,
            )

    return trio.run(write)


def _is_linked(config: Config) -> bool:
    from pynchy.whatsapp import session

    try:
        return session.linked(config.home.store / session.NAME, ours=False) is not None
    except session.Unreadable:  # doctor says more; whoever has no link yet has no such file
        return True


def _told(
    config: Config, report: Report, files: dict[str, Any], kept: Path | None
) -> dict[str, Any]:
    problems = list(report.problems)
    for folder, copied in files.items():
        problems += [f"{folder}: your own {each} stays as it is" for each in copied.kept]
        problems += [f"{folder}: {each} is a link or no file" for each in copied.refused]
    linked = config.whatsapp.enabled and _is_linked(config)
    groups = [{**row, "files": files[row["folder"]].new} for row in report.groups]
    return {
        "groups": groups,
        "tasks": report.tasks,
        "allowlist": report.allowlist,
        "backup": None if kept is None else str(kept),
        "problems": problems,
        "pair_again": any(row["chat"] for row in groups) and not linked,
    }


def render(told: dict[str, Any]) -> str:
    """What came over, for a person."""
    lines = []
    for row in told["groups"]:
        also = ", its conversation" if row["session"] else ""
        lines.append(
            f"{row['folder']}: {row['messages']} messages, {row['unanswered']} to be answered, "
            f"{row['files']} files{also}; {row['chat'] or 'no chat'}"
        )
    lines.append(f"tasks: {told['tasks']}; mount allowlist: {told['allowlist']}")
    if told["backup"]:
        lines.append(f"the database as it was: {told['backup']}")
    lines += [f"note: {problem}" for problem in told["problems"]]
    if told["dry_run"]:
        lines.append("nothing was changed; without --dry-run this comes over")
    elif told["pair_again"]:
        lines.append(
            "WhatsApp must be paired again, its link cannot be brought over: pynchy auth whatsapp"
        )
        lines.append("Stop the old one first, or both will answer.")
    return "\n".join(lines)
