"""The same readers, led by coverage: atheris sees which branches an input reaches, and goes on from there.

``python -m tests.redteam.fuzz --inputs 1000000`` shares so many inputs among all readers; ``--reader NAME`` takes those
whose name holds that. What was found worth keeping stays in a cache folder, so that the next run begins where this one
ended. An input that breaks a reader is written to a file, and said how to play it again: ``--play FILE``.

The library's loop ends the process that it runs in. So each reader has a process of its own, which is told its name;
and what is to be watched must be imported under the library's eyes, so nothing here imports a reader before.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from tests.redteam.readers import Reader

LIST: Final = "tests.redteam.readers"
# The last is what stands between a container's bytes and the gateway.
WATCHED: Final = ("pynchy", "pynchy_agent", "h11")
LONGEST: Final = 4096  # bytes of an input
MEMORY: Final = 2048  # MiB of one reader's process
STUCK: Final = 60  # seconds for one input, after which the library takes it for one that never ends
BROKEN: Final = 77  # the library's own exit code for an input that raised


@attrs.frozen
class Told:
    """What became of one reader."""

    name: str
    inputs: int
    edges: int
    kept: int
    found: Path | None
    words: str  # the end of what was said, where something was found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all, from all readers")
    parser.add_argument("--reader", default="", help="only those whose name holds this")
    parser.add_argument("--play", type=Path, help="give this file to --reader and nothing else")
    parser.add_argument(
        "--keep", type=Path, default=cache(), help="what is kept, and what is found"
    )
    parser.add_argument("--list", default=LIST, help="the module whose readers() they are")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _fuzz(asked.list, asked.reader, asked.keep, asked.inputs)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; `just fuzz` does that where there is a build of it")
        return 2
    names = [name for name in _names(asked.list) if asked.reader in name]
    if not names or (asked.play and len(names) > 1):
        print(f"--reader {asked.reader!r}: expected one of: {', '.join(_names(asked.list))}")
        return 2
    if asked.play is not None:
        return _play(asked.list, names[0], asked.play)
    told = []
    for name in names:
        began = time.monotonic()
        one = fuzz(asked.list, name, asked.keep, asked.inputs // len(names) + 1)
        told.append(one)
        took = time.monotonic() - began
        print(
            f"{name}: {one.inputs} inputs, {one.edges} edges, {one.kept} kept, {took:.0f} s",
            flush=True,
        )
        if one.found is not None:
            print(
                f"FOUND: {one.words}\n  play it again: {again(asked.list, name, one.found)}",
                flush=True,
            )
    found = sum(one.found is not None for one in told)
    print(
        f"{sum(one.inputs for one in told)} inputs to {len(told)} readers, "
        f"{sum(one.edges for one in told)} edges, {found} findings"
    )
    return 1 if found else 0


def cache() -> Path:
    """Where inputs are kept from one run to the next, outside of the checkout."""
    top = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(top) / "pynchy-fuzz"


def again(where: str, name: str, found: Path) -> str:
    more = "" if where == LIST else f" --list {where}"
    return f".venv/bin/python -m tests.redteam.fuzz{more} --reader '{name}' --play {found}"


def fuzz(where: str, name: str, keep: Path, inputs: int) -> Told:
    """Let one process try so many inputs on one reader, and read what it says of it."""
    argv = [sys.executable, "-m", "tests.redteam.fuzz", "--child", "--list", where]
    argv += ["--reader", name, "--keep", str(keep), "--inputs", str(inputs)]
    with tempfile.TemporaryDirectory(prefix="pynchy-fuzz-") as ends_with_it:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            env={**os.environ, "TMPDIR": ends_with_it},
        )  # fmt: skip
    said = done.stdout.decode("utf-8", "replace")
    written = re.findall(r"Test unit written to (\S+)", said)
    if done.returncode and not written:
        raise RuntimeError(f"{name}: the fuzzer itself failed ({done.returncode}):\n{said[-4000:]}")
    edges = re.findall(r"\bcov: (\d+)", said)
    tries = re.findall(r"^stat::number_of_executed_units:\s*(\d+)", said, re.MULTILINE)
    tries = tries or re.findall(r"^#(\d+)\b", said, re.MULTILINE)
    return Told(
        name=name,
        inputs=int(tries[-1]) if tries else 0,
        edges=int(edges[-1]) if edges else 0,
        kept=sum(1 for _ in _kept(keep, name).iterdir()),
        found=Path(written[-1]) if written else None,
        words=_raised(said) if written else "",
    )


def _raised(said: str) -> str:
    """The traceback in what the library said, without its own words around it."""
    start = said.rfind("=== Uncaught Python exception: ===")
    start = start if start >= 0 else max(0, said.rfind("ERROR: libFuzzer"))
    return said[start : start + 4000].partition("\n==")[0].strip()


def _kept(keep: Path, name: str) -> Path:
    return keep / re.sub(r"\W+", "-", name.lower()).strip("-")


def _names(where: str) -> list[str]:
    return [reader.name for reader in _readers(where)]


def _readers(where: str) -> list[Reader]:
    from tests.edges.fake_whatsapp import protobufs_alone

    with protobufs_alone():
        found: list[Reader] = list(importlib.import_module(where).readers())
    return found


def _play(where: str, name: str, file: Path) -> int:
    from tests.redteam.readers import tried

    (reader,) = (each for each in _readers(where) if each.name == name)
    outcome = tried(reader, file.read_bytes())
    if isinstance(outcome, BaseException):
        raise outcome
    print(f"{name}: {'taken' if outcome else 'refused'}, as it should be")
    return 0


def _fuzz(where: str, name: str, keep: Path, inputs: int) -> None:
    """Try inputs on one reader until there were so many, or one is wrong. Never returns."""
    import atheris

    with atheris.instrument_imports(include=[*WATCHED, where]):
        (reader,) = (each for each in _readers(where) if each.name == name)
    from tests.redteam.readers import WORDS, tried

    def one(data: bytes) -> None:
        outcome = tried(reader, data)
        if isinstance(outcome, BaseException):
            raise outcome

    kept = _kept(keep, name)
    kept.mkdir(parents=True, exist_ok=True)
    seeds = Path(tempfile.mkdtemp(prefix="pynchy-seeds-"))
    for seed in reader.seeds:
        (seeds / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    words = seeds.with_suffix(".dict")
    words.write_text("".join(f'"{_spelled(word)}"\n' for word in WORDS), encoding="ascii")
    options = {
        "runs": inputs, "max_len": LONGEST, "timeout": STUCK, "rss_limit_mb": MEMORY, "dict": words,
        "artifact_prefix": f"{keep}/found-{kept.name}-", "print_final_stats": 1, "detect_leaks": 0,
    }  # fmt: skip
    flags = [f"-{key}={value}" for key, value in options.items()]
    # The first folder is where what is new is kept.
    atheris.Setup([sys.argv[0], *flags, str(kept), str(seeds)], one)
    atheris.Fuzz()
    raise AssertionError("the library's loop came back")


def _spelled(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
