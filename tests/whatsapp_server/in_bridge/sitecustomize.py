"""In the WhatsApp process alone: have the library trust the root key of the stand-in, in memory.

Python imports this at start, because its folder is on PYTHONPATH. The key is the one thing in which the library cannot
be told by a setting to talk to another server: proxy and certificates are settings of Pynchy's own. Nothing on disk is
changed.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path

KEY = "PYNCHY_TEST_WHATSAPP_ROOT_KEY"  # in hex
BINDER = "neonize._binder"  # what loads the shared object
WHATSAPPS = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")


def replace_root_key(library: Path, key: bytes) -> None:
    """Overwrite WhatsApp's root key in the loaded library."""
    data = library.read_bytes()
    if data.count(WHATSAPPS) != 1:
        raise SystemExit("this build of the library keeps the root key differently")
    address = _base(library) + _in_memory(data, data.index(WHATSAPPS))
    if ctypes.string_at(address, len(WHATSAPPS)) != WHATSAPPS:
        raise SystemExit("the root key is not where it should be")
    ctypes.memmove(address, key, len(WHATSAPPS))


def _in_memory(data: bytes, offset: int) -> int:
    """Where, counted from the library's base, these bytes of the file are in memory (ELF, 64 bits)."""

    def number(at: int, length: int = 8) -> int:
        return int.from_bytes(data[at : at + length], "little")

    start, size, count = number(32), number(54, 2), number(56, 2)
    for at in range(start, start + size * count, size):
        first, length = number(at + 8), number(at + 32)
        if number(at, 4) == 1 and first <= offset < first + length:
            return number(at + 16) + offset - first
    raise SystemExit("the root key is in no segment")


def _base(library: Path) -> int:
    real = str(library.resolve())
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return min(int(line.partition("-")[0], 16) for line in lines if line.endswith(real))


class _Finder(importlib.abc.MetaPathFinder):
    """Loads the binding as ever, and then replaces the key."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != BINDER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        loader = spec.loader
        assert isinstance(loader, importlib.machinery.SourceFileLoader)
        load = loader.exec_module

        def load_and_replace(module: types.ModuleType) -> None:
            load(module)
            assert module.__file__ is not None
            (library,) = Path(module.__file__).parent.glob("neonize-linux-*.so")
            replace_root_key(library, bytes.fromhex(os.environ[KEY]))

        loader.exec_module = load_and_replace  # type: ignore[method-assign]
        return spec


if os.environ.get(KEY) and "pynchy.whatsapp.bridge" in sys.orig_argv:
    sys.meta_path.insert(0, _Finder())
