"""Write the parts of the documentation that the code knows best: `just docs`.

A test fails where what is written is not what this would write. Run with ``--check`` to be told.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
import click

from pynchy import limits
from pynchy.cli.app import pynchy
from pynchy.config.settings import CREDENTIALS, SECTIONS
from pynchy.config.values import spell_size, spell_time
from pynchy.control.metrics import Figures
from pynchy.control.ops.approvals import ApprovalOps
from pynchy.control.ops.console import ConsoleOps
from pynchy.control.ops.forgetting import ForgettingOps
from pynchy.control.ops.groups import GroupOps
from pynchy.control.ops.looking import LookingOps
from pynchy.control.ops.settings import SettingsOps
from pynchy.control.ops.status import StatusOps
from pynchy.control.ops.tasks import TaskOps
from pynchy.control.server import arguments_of, ops_of
from pynchy.control.subscriptions import Watching
from pynchy.exits import Exit
from pynchy.gateway.caching import next_message
from pynchy.gateway.prices import ALIASES, DEAREST, PRICED, PRICES
from pynchy.groups.queue import TRANSITIONS, Phase
from pynchy.policy.tools import TOOLS, Reach
from pynchy.store.migrations import STEPS

DOCS: Final = Path(__file__).resolve().parent


def config() -> Iterator[str]:
    yield "# Configuration\n"
    yield "Written by `just docs` from `pynchy/config/settings.py`. Do not edit.\n"
    yield (
        "Settings are read once, at the start, from four places; the first that has one wins:\n\n"
        "1. the command line: `pynchy run --set limits.idle=10min`;\n"
        "2. the environment: `PYNCHY_LIMITS_IDLE=10min`;\n"
        "3. `PYNCHY_HOME/.env`, with the same names;\n"
        '4. `PYNCHY_HOME/config.toml`: `[limits]`, `idle = "10 min"`.\n\n'
        "`PYNCHY_HOME` is `~/.pynchy` unless the environment says otherwise. A name that is no "
        "setting is an error that names the nearest one, and so is a value that is not of its "
        "kind: a start says all that is wrong at once, and exits with 78.\n"
    )
    for section, cls in SECTIONS.items():
        yield f"## {section}\n\n{inspect.getdoc(cls)}\n"
        yield "| key | default | what it is | what it may be |\n| --- | --- | --- | --- |"
        for field in attrs.fields(cls):
            kind = field.metadata["kind"]
            text = kind.spell(field.default)
            default = f"`{text}`" if text else "empty"
            cells = (f"`{field.name}`", default, field.metadata["doc"], kind.expected)
            yield "| " + " | ".join(cells) + " |"
        yield ""
    yield "## Credentials\n"
    yield (
        f"{' or '.join(f'`{name}`' for name in CREDENTIALS)}, in the environment or in "
        "`PYNCHY_HOME/.env` (mode 600), opens the model API. It stays in the daemon: no container, "
        "log or error message ever holds it. The environment wins over the file.\n"
    )
    yield "## `.env`\n"
    yield (
        "`NAME=value` a line; `export` before it and comments are allowed. A bare value ends at "
        "` #` or at the end of the line; `'…'` is literal; in `\"…\"` a backslash escapes "
        '`\\n \\t \\r \\" \\\\ \\$`. Quoted values may span lines. Nothing is substituted: '
        "a dollar is a dollar.\n"
    )
    yield from exits()


def exits() -> Iterator[str]:
    yield "## Exit codes\n"
    yield "| code | meaning |\n| --- | --- |"
    for code in Exit:
        yield f"| {code.value} | {code.meaning} |"
    yield ""


def cli() -> Iterator[str]:
    yield "# The command line\n"
    yield "Written by `just docs` from `pynchy/cli/`. Do not edit.\n"
    for path, command in commands("pynchy", pynchy):
        context = click.Context(
            command,
            info_name=path,
            terminal_width=96,
            max_content_width=96,
            help_option_names=pynchy.context_settings["help_option_names"],
        )
        yield f"## `{path}`\n\n```text\n{command.get_help(context)}\n```\n"
    yield from exits()


def commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(f"{path} {name}", found)


def ops() -> Iterator[str]:
    """The ops, from their signatures and docstrings: the part of control.md between the marks."""
    tables = (
        ConsoleOps,
        StatusOps,
        LookingOps,
        GroupOps,
        ForgettingOps,
        SettingsOps,
        ApprovalOps,
        TaskOps,
        Watching,
        Figures,
    )
    yield "| op | arguments | what it does |\n| --- | --- | --- |"
    for name, op in ops_of(*tables).items():
        taken = arguments_of(op)
        arguments = ", ".join(
            f"`{argument}`: {kind.expected}{'' if argument in taken.needs else ', optional'}"
            for argument, kind in taken.fields.items()
        )
        doc = " ".join((inspect.getdoc(op) or "").replace("``", "`").split())
        yield f"| `{name}` | {arguments or 'none'} | {doc} |"


def tools() -> Iterator[str]:
    """What agents can ask of the host, and from where."""
    yield "# Tools\n"
    yield "Written by `just docs` from `pynchy/policy/tools.py`. Do not edit.\n"
    yield (
        "The tools of the server `pynchy`, as an agent is offered them. Whether a call is carried out "
        "is decided on the host, by the folder it came from. *Main* alone is offered what reaches all "
        "groups; where *a person is asked*, the call waits for `/approve` in main.\n"
    )
    shown = ", ".join(f"`{name}`" for name, tool in TOOLS.items() if not tool.rare)
    yield (
        f"Every request of an agent describes {shown}. Of the others it has the names, and looks up what they take "
        "when it wants one.\n"
    )
    yield "| tool | who | arguments | what it does |\n| --- | --- | --- | --- |"
    for name, tool in TOOLS.items():
        who = "all" if tool.reach is Reach.OWN else "main"
        who += ", a person is asked" if tool.asks else ""
        arguments = "; ".join(
            f"`{argument}`{'' if argument in tool.needs else ' (optional)'}: {taken.kind.expected}"
            for argument, taken in tool.arguments.items()
        )
        words = tool.description.replace("|", "\\|")
        yield f"| `{name}` | {who} | {arguments or 'none'} | {words} |"
    yield ""


def fixed_limits() -> Iterator[str]:
    """The numbers that people meet and cannot set."""
    yield "# Limits\n"
    yield "Written by `just docs` from `pynchy/limits.py`. Do not edit.\n"
    yield (
        "How many, how large and how long, where nothing can be set. What can be set, with its default, is in "
        "[config.md](config.md); the limits of a tool's arguments are in [tools.md](tools.md).\n"
    )
    for section in limits.TABLE.values():
        yield f"## {spell_class(type(section))}\n\n{inspect.getdoc(section)}\n"
        yield "| what | limit |\n| --- | --- |"
        for field in attrs.fields(type(section)):
            text = spell_limit(getattr(section, field.name), field.metadata["unit"])
            yield f"| {field.metadata['doc']} | {text} |"
        yield ""


def spell_class(section: type[object]) -> str:
    """RunLogs as people write it: Run logs."""
    if section is limits.WhatsApp:
        return "WhatsApp"
    return re.sub(r"(?<!^)(?=[A-Z])", " ", section.__name__).capitalize()


def spell_limit(value: float, unit: limits.Unit) -> str:
    """A number of that table as a person would write it."""
    if unit == "time":
        return spell_time(value)
    if unit == "bytes" and value % 1024 == 0:
        return spell_size(int(value))
    return f"{value:,} {unit}".strip()


def tables() -> Iterator[str]:
    """The database, step by step."""
    import sqlite3

    import sqlite_utils

    yield "# Tables\n"
    yield "Written by `just docs` from `pynchy/store/migrations.py`. Do not edit.\n"
    yield (
        "The database is `PYNCHY_HOME/store/pynchy.db` (SQLite, WAL). Each step below brought some "
        "tables; `PRAGMA user_version` says how many steps a file has had. Moments are microseconds "
        "since 1970 in UTC. Only the daemon opens it: ask the control socket, or read a copy "
        "(`pynchy backup`).\n"
    )
    database = sqlite_utils.Database(sqlite3.connect(":memory:"))
    seen: set[str] = set()
    for number, step in enumerate(STEPS, start=1):
        step(database)
        yield f"## {number}: {step.__name__}\n\n{' '.join((inspect.getdoc(step) or '').split())}\n"
        rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
        new = [row for row in rows if row[1] not in seen and not row[1].startswith("sqlite_")]
        shadows = tuple(f"{row[1]}_" for row in new if (row[3] or "").startswith("CREATE VIRTUAL"))
        seen |= {row[1] for row in rows}
        for _, name, _, sql in (row for row in new if row[0] == "table"):
            if not (shadows and name.startswith(shadows)):
                yield f"```sql\n{inspect.cleandoc(sql)}\n```\n"
        others = [f"`{name}`" for kind, name, *_ in new if kind in ("index", "trigger")]
        if others:
            yield f"Indexes and triggers: {', '.join(others)}.\n"
    database.close()


def states() -> Iterator[str]:
    """The phases of a group's run, as a picture: the part of reliability.md between the marks."""
    yield "```mermaid\nstateDiagram-v2"
    yield "    [*] --> resting"
    moves: dict[tuple[str, str], list[str]] = {}
    for (phase, event), after in TRANSITIONS.items():
        if phase is not after:
            moves.setdefault((phase.value, after.value), []).append(event.__name__)
    # What the queue decides, rather than hears:
    yield f"    {Phase.RESTING.value} --> {Phase.BUSY.value}: a slot is free and something waits"
    yield f"    {Phase.IDLE.value} --> {Phase.CLOSING.value}: its slot is wanted, or it is outdated"
    for (before, after), events in moves.items():
        yield f"    {before} --> {after}: {', '.join(events)}"
    yield "```"


def costs() -> Iterator[str]:
    """The prices, and what a short message costs by them: the part of costs.md between the marks."""
    sizes = (8_000, 40_000, 160_000)
    yield f"List prices of {PRICED}, and a short message in a conversation of so many tokens, cached / not cached.\n"
    head = ["model", "input", "from the cache", "output", *(f"{size:,}" for size in sizes)]
    yield f"| {' | '.join(head)} |\n|{' --- |' * len(head)}"
    aliases = {model: alias for alias, model in ALIASES.items() if alias in model.split("-")}
    for model, price in PRICES.items():
        paid = (next_message(model, size, hour=False) for size in sizes)
        told = [f"${warm / 1e6:.3f} / ${cold / 1e6:.3f}" for warm, cold in paid]
        name = f"`{model}`" + (f", `{aliases[model]}`" if model in aliases else "")
        figures = (f"{each:g}" for each in (price.input, price.cache_read, price.output))
        yield f"| {' | '.join([name, *figures, *told])} |"
    yield f"| any other | {DEAREST.input:g} | {DEAREST.cache_read:g} | {DEAREST.output:g} | | | |\n"


WHOLE: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "config.md": config,
    "cli.md": cli,
    "tools.md": tools,
    "tables.md": tables,
    "limits.md": fixed_limits,
}
PARTS: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "control.md": ops,
    "costs.md": costs,
    "reliability.md": states,
}
BEGIN: Final = "<!-- generated: just docs -->\n"
END: Final = "<!-- end -->\n"


def generated() -> dict[Path, str]:
    """Every page that is written here, as it should be."""
    pages = {DOCS / name: "\n".join(write()).rstrip() + "\n" for name, write in WHOLE.items()}
    for name, write in PARTS.items():
        page = (DOCS / name).read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        pages[DOCS / name] = before + BEGIN + "\n".join(write()) + "\n" + END + after
    return pages


def stale() -> list[str]:
    """The pages that are not as they should be."""
    return [
        path.name
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> None:
    if "--check" in sys.argv:
        if found := stale():
            sys.exit(f"stale: {', '.join(found)}; write them with: just docs")
        return
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
