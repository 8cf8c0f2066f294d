"""`pynchy import`: bring in a NanoClaw home, or one of an earlier Pynchy."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pynchy.cli.edit import set_setting
from pynchy.cli.output import json_option, show
from pynchy.config.paths import stamp_of
from pynchy.config.settings import Config
from pynchy.config.sources import from_environ
from pynchy.config.values import NAME

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
@json_option
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
    from pynchy.daemon.lock import open_lock
    from pynchy.moving.importer import NoOldHome, read_home
    from pynchy.store.database import see_that_it_is_ours

    config = from_environ(os.environ)
    home = config.home
    see_that_it_is_ours(home.database, home.store_mark)
    place = allowlist or _allowlist(path)
    try:
        old = read_home(path.absolute())
        if dry_run:
            told = _rehearse(config, path, old, place)
        else:
            home.make()
            with open_lock(home.lock):
                told = _bring(config, path, old, place)
    except NoOldHome as error:
        raise click.UsageError(str(error)) from None
    show({**told, "dry_run": dry_run}, _lines, as_json=as_json)


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
    name = _new_name(config, old)
    report = _write(config, home.database, old, scaffold, name=name, mark=home.store_mark)
    if name is not None:  # at last: an import that was interrupted asks for it again
        set_setting(home.config, "assistant", "name", json.dumps(name, ensure_ascii=False))
    report.allowlist = importer.bring_allowlist(allowlist, home, dry=False)
    return {**_told(config, report, files, kept), "assistant": name}


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
        name = _new_name(config, old)
        report = _write(config, copy, old, lambda group: None, name=name)
    report.allowlist = importer.bring_allowlist(allowlist, home, dry=True)
    return {**_told(config, report, files, None), "assistant": name}


def _write(
    config: Config,
    database: Path,
    old: OldHome,
    scaffold: Any,
    *,
    name: str | None,
    mark: Path | None = None,
) -> Report:
    import trio

    from pynchy.moving import importer
    from pynchy.store.database import open_store

    async def write() -> Report:
        async with open_store(database, mark=mark) as store:
            return await store.call(
                importer.write,
                old,
                assistant=name or config.assistant.name,
                before=config.assistant.name if name is not None else None,
                timezone=config.assistant.timezone,
                scaffold=scaffold,
            )

    return trio.run(write)


def _new_name(config: Config, old: OldHome) -> str | None:
    """What the assistant is called there, if it is to be called so here, too: nobody gave it a name here."""
    from pynchy.config.sources import find

    said = find(os.environ).origins.get(("assistant", "name"))
    fits = NAME.wrong(old.assistant) is None
    return old.assistant if fits and not said and old.assistant != config.assistant.name else None


def _is_linked(config: Config) -> bool:
    from pynchy.store import whatsapp_session as session

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


def _lines(told: dict[str, Any]) -> Iterator[str]:
    for row in told["groups"]:
        also = ", its conversation" if row["session"] else ""
        yield (
            f"{row['folder']}: {row['messages']} messages, {row['unanswered']} to be answered, "
            f"{row['files']} files{also}; {row['chat'] or 'no chat'}"
        )
    if told["assistant"]:
        yield f"the assistant is called {told['assistant']}, as there"
    yield f"tasks: {told['tasks']}; mount allowlist: {told['allowlist']}"
    if told["backup"]:
        yield f"the database as it was: {told['backup']}"
    yield from (f"note: {problem}" for problem in told["problems"])
    if told["dry_run"]:
        yield "nothing was changed; without --dry-run this is imported"
    elif told["pair_again"]:
        yield "WhatsApp must be linked again, its link cannot be imported: pynchy auth whatsapp"
        yield "Stop the old one first, or both will answer."
