"""Install the packages that put voice notes into words, apart from ours, from a lock of their own."""

from __future__ import annotations

import compileall
import os
import platform
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from pynchy.config import uv
from pynchy.files.writing import replace
from pynchy.voice.parts import LOCK, STAMP, Parts, stamp_of

_MACHINES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class NotInstalled(Exception):
    """Why the packages are not there, and what to do about it."""


def install(parts: Parts, *, lock: Path = LOCK) -> None:
    """Put the packages where sandboxes look for them, whole or not at all. Raises `NotInstalled`."""
    if not lock.exists():
        raise NotInstalled(f"there is no {lock}: Pynchy has to run from its checkout for this")
    machine = _MACHINES.get(platform.machine().lower())
    if machine is None:
        raise NotInstalled(f"there are no packages for {platform.machine()}")
    program = uv.find(os.environ)
    if program is None:
        raise NotInstalled(
            f"uv is missing: python3 -m pip install -qq --target {uv.TOOLS} -r requirements/tools.lock"
        )
    aside = parts.packages.with_name(parts.packages.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    argv = [program, "pip", "install", "--quiet", "--no-config", "--target", str(aside)]
    argv += ["--python-version", parts.python, "--python-platform", f"{machine}-manylinux_2_28"]
    # Copied, not linked to a cache: these files are nobody's but the sandbox's.
    argv += ["--only-binary", ":all:", "--link-mode", "copy", "--require-hashes", "-r", str(lock)]
    try:
        subprocess.run(argv, check=True, umask=0o022, env=uv.trusting(os.environ))
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise NotInstalled(f"the packages could not be installed: {error}") from None
    except subprocess.CalledProcessError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise NotInstalled(
            f"the packages could not be installed: uv ended with {error.returncode}; what it said is above"
        ) from None
    if parts.python == f"{sys.version_info.major}.{sys.version_info.minor}":
        # Now: a sandbox cannot keep what it compiles, and a fifth of a second for each note is a lot.
        compileall.compile_dir(
            aside, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    for path in (aside, *aside.rglob("*")):
        if not path.is_symlink():  # the sandbox's user reads them, whoever fetched them
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    replace(aside / STAMP, stamp_of(lock), mode=0o644)
    shutil.rmtree(parts.packages, ignore_errors=True)
    aside.rename(parts.packages)
