"""Decide which host folders a group may see, by the owner's allowlist.

A request is granted only if every rule below allows it; no default lets anything through. What the disk says of a path
(`Seen`: its real path and kind) comes in as a fact, and paths are compared by components, never as text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

import attrs

from pynchy.container.mounts.sensitive import HOST_PROGRAMS, SECRETS, fold, matched_by
from pynchy.container.spec import BadSpec, Mount
from pynchy.limits import GROUPS
from pynchy_agent import wire
from pynchy_agent.values import Flag, Items, Kind, Pattern, Record, Text, Wrong

MAX_BYTES: Final = GROUPS.allowlist
EXTRA: Final = "/workspace/extra"

# Trees of the system's: neither they nor anything in them, whatever the allowlist says.
_SYSTEM: Final[tuple[PurePath, ...]] = tuple(
    PurePath(path)
    for path in (
        "/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/etc",
        "/var/lib", "/var/spool", "/usr", "/bin", "/sbin", "/lib", "/lib64",
        "/private/etc", "/private/var/run", "/private/var/db", "/System", "/Library",
    )
)  # fmt: skip

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_INVISIBLE: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class BadAllowlist(ValueError):
    """The allowlist cannot be used, so nothing may be mounted. The owner has to correct it."""


@attrs.frozen
class Root:
    """A folder below which mounts are allowed. ``path`` is as written; `real_roots` finds where it is."""

    path: str
    writable: bool = False
    description: str = ""


@attrs.frozen
class Allowlist:
    """What the owner allows."""

    roots: tuple[Root, ...] = ()
    blocked: tuple[str, ...] = SECRETS
    non_main_read_only: bool = True


NOTHING: Final = Allowlist()


class _Comment(Kind[object]):
    """Whatever the owner writes."""

    expected = "anything"

    def _take(self, value: object) -> object:
        return value


_COMMENT: Final = {"_comment": _Comment()}
_ROOT: Final = Record(
    needs={"path": Text()},
    may={"allowReadWrite": Flag(), "description": Text(least=0), **_COMMENT},
)
_BLOCKED: Final = Pattern(re.compile(r"(?=.*[^/ ]).{1,255}", re.DOTALL), "a name, or a path")
_FILE: Final = Record(
    may={
        "allowedRoots": Items(_ROOT),
        "blockedPatterns": Items(_BLOCKED),
        "nonMainReadOnly": Flag(),
        **_COMMENT,
    }
)


def parse_allowlist(data: bytes) -> Allowlist:
    """The allowlist that a file says, or `BadAllowlist`. Unknown names are refused; ``_comment`` may be anywhere."""
    try:
        document = _FILE.take(wire.loads_strict(data, max_bytes=MAX_BYTES))
    except wire.BadFrame as error:
        raise BadAllowlist(f"not a JSON object: {error}") from None
    except Wrong as error:
        raise BadAllowlist(str(error)) from None
    roots = tuple(
        Root(each["path"], each.get("allowReadWrite", False), each.get("description", ""))
        for each in document.get("allowedRoots", ())
    )
    for root in roots:
        _check_written(root.path)
    blocked = dict.fromkeys((*SECRETS, *document.get("blockedPatterns", ())))
    return Allowlist(roots, tuple(blocked), document.get("nonMainReadOnly", True))


# --- paths -----------------------------------------------------------------------------------------


def _check_written(path: str) -> None:
    """A path as a person writes it: absolute, or ``~/…``; plain components."""
    text = path.removeprefix("~") if path.startswith("~/") else path
    parts = text.split("/")[1:]
    if not text.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        raise BadAllowlist(f"not an absolute path without '.', '..' or double slashes: {path!r}")
    if any(unicodedata.category(char) in _INVISIBLE for char in path) or len(path) > 4000:
        raise BadAllowlist(f"invisible characters, or too many, in {path!r}")


def contains(outer: PurePath, inner: PurePath) -> bool:
    """Whether one path is the other, or lies above it."""
    return outer == inner or outer in inner.parents


# --- the judgement ---------------------------------------------------------------------------------


@attrs.frozen
class MountRequest:
    """A mount that a group's settings ask for."""

    path: str
    name: str
    writable: bool = False


@attrs.frozen
class Seen:
    """What is at a path: where it really is, and whether it is a ``folder``, a ``file`` or ``other``."""

    real: Path
    kind: str


@attrs.frozen
class KnownPaths:
    """The paths that a mount is judged by, all with links resolved.

    ``roots`` are the allowlist's, in its order, None where one does not exist. ``ours`` is our state, our code and our
    settings. ``written`` are the trees that any container can write, ``sources`` the sources of all other mounts.
    ``programs`` are the folders in which the owner's shell looks for programs.
    """

    roots: tuple[Path | None, ...] = ()
    ours: tuple[Path, ...] = ()
    written: tuple[Path, ...] = ()
    sources: tuple[Path, ...] = ()
    programs: tuple[Path, ...] = ()

    def with_mounts(self, *mounts: Mount) -> KnownPaths:
        """These paths once the mounts are granted."""
        return attrs.evolve(
            self,
            sources=(*self.sources, *(mount.source for mount in mounts)),
            written=(*self.written, *(mount.source for mount in mounts if mount.writable)),
        )


@attrs.frozen
class Granted:
    """The mount that a request becomes; ``note`` says if it is less than was asked."""

    mount: Mount
    note: str = ""


@attrs.frozen
class Denied:
    """A request that is denied, and why: a sentence for the owner."""

    request: MountRequest
    reason: str


def name_after(path: str) -> str:
    """The default name of the mount of a path."""
    return path.rstrip("/").rpartition("/")[2]


def unfit(request: MountRequest) -> str | None:
    """Why a request can never be granted as it is written, or None."""
    if not _NAME.fullmatch(request.name) or ".." in request.name:
        return f"not a name: {request.name!r}"
    try:
        _check_written(request.path)
    except BadAllowlist as error:
        return str(error)
    return None


def judge(
    request: MountRequest,
    seen: Seen | None,
    *,
    allowlist: Allowlist,
    known: KnownPaths,
    is_main: bool,
) -> Granted | Denied:
    """Whether a group gets a mount. Never raises."""
    if (reason := unfit(request)) is not None:
        return Denied(request, reason)
    if seen is None:
        return Denied(request, f"{request.path} is not there")
    if seen.kind not in {"folder", "file"}:
        return Denied(request, f"{request.path} is neither a folder nor a file")
    real = seen.real
    for parts in (PurePosixPath(request.path).parts, real.parts):
        if pattern := matched_by(parts, allowlist.blocked):
            return Denied(request, f"{request.path} is blocked by {pattern!r}")
    for tree in _SYSTEM:
        if contains(tree, real) or contains(real, tree):
            return Denied(request, f"{tree} belongs to the system")
    for mine in known.ours:
        if contains(mine, real) or contains(real, mine):
            return Denied(request, f"{request.path} overlaps {mine}, which is Pynchy's own")
    root = _root_of(real, allowlist, known)
    if root is None:
        return Denied(request, f"{real} is below no allowed root")
    for written in known.written:
        if written in real.parents:
            return Denied(request, f"{real} is in {written}, where a container can write")
    writable, note = request.writable, ""
    if writable and not root.writable:
        writable, note = False, f"read-only, as {root.path} is"
    elif writable and not is_main and allowlist.non_main_read_only:
        writable, note = False, "read-only: only main may write"
    if writable and (pattern := matched_by(real.parts, HOST_PROGRAMS)):
        writable, note = False, f"read-only: your own programs run what is in {pattern!r}"
    elif writable and any(contains(folder, real) for folder in known.programs):
        writable, note = False, "read-only: your shell looks for programs there"
    if writable and (inner := [s for s in known.sources if real in s.parents]):
        return Denied(request, f"{inner[0]} is inside it, and is mounted elsewhere")
    try:
        return Granted(Mount(real, f"{EXTRA}/{request.name}", writable), note)
    except BadSpec as error:
        return Denied(request, str(error))


def _root_of(real: Path, allowlist: Allowlist, known: KnownPaths) -> Root | None:
    """The deepest root that contains it; a root does not contain itself."""
    around = [
        (len(where.parts), root)
        for root, where in zip(allowlist.roots, known.roots, strict=True)
        if where is not None and where in real.parents
    ]
    return max(around, key=lambda pair: pair[0])[1] if around else None


def judge_all(
    requests: Sequence[tuple[MountRequest, Seen | None]],
    *,
    allowlist: Allowlist,
    known: KnownPaths,
    is_main: bool,
) -> tuple[Granted | Denied, ...]:
    """Judge one group's requests in order. Each sees what was granted before it, so that no two conflict."""
    verdicts: list[Granted | Denied] = []
    names: set[str] = set()
    for request, seen in requests:
        if fold(request.name) in names:
            verdicts.append(Denied(request, f"there is another mount called {request.name!r}"))
            continue
        verdict = judge(request, seen, allowlist=allowlist, known=known, is_main=is_main)
        verdicts.append(verdict)
        if isinstance(verdict, Granted):
            names.add(fold(request.name))
            known = known.with_mounts(verdict.mount)
    return tuple(verdicts)


# --- secrets inside a mounted tree -----------------------------------------------------------------


@attrs.frozen
class Hit:
    """A name in a granted tree that is in a table of `sensitive`. ``place`` is relative to the tree. A ``secret`` is
    hidden; anything else is made read-only."""

    place: PurePosixPath
    folder: bool
    secret: bool = True


def masks(
    granted: Granted, hits: Iterable[Hit], *, empty_file: Path, empty_folder: Path
) -> tuple[Mount, ...]:
    """Read-only mounts over each hit: empty ones over secrets, and of the thing itself otherwise. Raises `BadSpec` for
    a place that cannot be mounted, or for two hits that lie in each other: such a tree is not mounted at all."""

    def cover(hit: Hit) -> Path:
        if not hit.secret:
            return granted.mount.source / hit.place
        return empty_folder if hit.folder else empty_file

    return tuple(Mount(cover(hit), f"{granted.mount.target}/{hit.place}") for hit in hits)


TEMPLATE: Final = """{
  "_comment": "Folders of this machine that groups may ask for. Nothing is mounted that is not below one of them.",
  "allowedRoots": [
    {
      "_comment": "Remove this example, or make it yours. A root itself is never mounted, only what is below it.",
      "path": "~/projects",
      "allowReadWrite": false,
      "description": "source code"
    }
  ],
  "blockedPatterns": ["*.sqlite", "private"],
  "nonMainReadOnly": true
}
"""
