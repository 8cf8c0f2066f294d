"""The bridge over the real shared object, as far as it goes without the network."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BRIDGE = (sys.executable, "-m", "pynchy.whatsapp.bridge")
START = {"line": "start", "name": "P", "chats": {}, "media_limit": 1}
#: Nothing listens there: the library takes its way out from the environment when it is loaded.
NO_WAY_OUT = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "NEONIZE_BOT_TAG": "off"}
NO_WAY_OUT.pop("SPHINX", None)


def bridge(store: Path, *flags: str, say: object = START) -> tuple[int, list[dict[str, Any]]]:
    """Run a bridge to its end, with its input open as long as it likes."""
    child = subprocess.Popen(
        [*BRIDGE, str(store), "--log", str(store.parent / "log"), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=NO_WAY_OUT,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(say).encode() + b"\n")
        child.stdin.flush()
        lines = [json.loads(line) for line in child.stdout]
        return child.wait(timeout=30), lines
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def link(store: Path) -> None:
    """A link made by hand, in the tables that the library itself has made."""
    code, lines = bridge(store, "--pair")
    assert (code, lines[-1]["line"]) == (1, "failed")
    db = sqlite3.connect(store / "whatsapp.db")
    with db:
        row: dict[str, Any] = {"jid": "4917:3@s.whatsapp.net", "lid": "8001:3@lid"}
        for _, name, kind, *_ in db.execute("PRAGMA table_info(whatsmeow_device)").fetchall():
            if kind == "bytea":
                row[name] = os.urandom(64 if name.endswith(("_sig", "sig")) else 32)
            elif kind in ("BIGINT", "INTEGER"):
                row[name] = 1
        db.execute(
            # Columns that the table itself has named.
            f"INSERT INTO whatsmeow_device ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608
            list(row.values()),
        )
    db.close()


def test_pairing_without_a_network_says_so_and_ends(tmp_path: Path) -> None:
    code, lines = bridge(tmp_path / "store", "--pair")
    assert code == 1
    assert lines[-1]["line"] == "failed"
    assert "dial" in lines[-1]["reason"]
    assert (tmp_path / "store" / "whatsapp.db").stat().st_mode & 0o777 == 0o600


def test_a_linked_bridge_that_cannot_dial_says_so_and_ends(tmp_path: Path) -> None:
    # invariant 79
    store = tmp_path / "store"
    link(store)
    for _ in range(3):  # again and again: nothing of the one before is in the way
        code, lines = bridge(store)
        assert code == 2
        assert [line["line"] for line in lines] == ["me", "state", "state"]
        assert lines[0]["number"] == "4917@s.whatsapp.net"
        assert lines[-1]["state"] == "disconnected"
        assert "dial" in lines[-1]["detail"]


def test_linking_what_is_linked_says_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    link(store)
    code, lines = bridge(store, "--pair")
    (linked,) = lines
    assert "dial" in linked.pop("doubt")  # it asked, and WhatsApp is not to be reached from here
    assert (code, linked) == (0, {"line": "linked", "number": "4917@s.whatsapp.net", "new": False})


def test_the_library_never_fetches_its_shared_object(tmp_path: Path) -> None:
    script = (
        "import pynchy.whatsapp.library, neonize.download as d\n"
        "try: d.download()\nexcept RuntimeError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, env=NO_WAY_OUT, check=False
    )
    assert done.stdout.strip().endswith(b"refused")
    assert b"requests" not in done.stderr


@pytest.mark.parametrize("module", ["pynchy.daemon.wiring", "pynchy.whatsapp.channel"])
def test_the_daemon_never_loads_the_library(module: str) -> None:
    script = f"import sys, {module}; print(any('neonize' in name for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.strip() == b"False"
