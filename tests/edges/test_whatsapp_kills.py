"""No message is lost, doubled or moved on its way in, whoever is killed in the middle."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from .test_whatsapp import link

CONSUMER = Path(__file__).with_name("whatsapp_consumer.py")
EVENTS = int(os.environ.get("PYNCHY_TEST_EVENTS", "2000"))
HANG = 60 + EVENTS / 50  # seconds


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_nothing_is_lost_when_the_daemon_is_killed(tmp_path: Path) -> None:
    """Real events through the real callbacks, the daemon's side killed twice: all is in the store, in order."""
    # invariants 74, 77
    link(tmp_path / "store")
    argv = [sys.executable, str(CONSUMER), str(tmp_path), str(EVENTS)]
    progress = tmp_path / "progress"
    for part in (1, 2):
        child = subprocess.Popen(argv)
        deadline = time.monotonic() + HANG
        while size(progress) < part * EVENTS // 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        child.kill()
        child.wait()
        assert part * EVENTS // 3 <= size(progress) < EVENTS
    subprocess.run(argv, timeout=HANG, check=True)
    with closing(sqlite3.connect(tmp_path / "store" / "pynchy.db")) as db:
        rows = db.execute(
            "SELECT message_id, edits, attachments FROM inbox ORDER BY seq"
        ).fetchall()
    assert [row[0] for row in rows] == [f"M{number:08}" for number in range(EVENTS)]
    assert sum(row[1] is not None for row in rows) == EVENTS // 50 * 3
    assert sum(row[2] is not None for row in rows) == EVENTS // 50
    other = closing(sqlite3.connect(tmp_path / "store" / "whatsapp-journal.db"))
    with other as db:
        rows = db.execute(
            "SELECT count(*) FROM events WHERE payload LIKE '%of another chat%'"
        ).fetchall()
    assert rows == [(0,)]  # nothing of a chat that is not registered was ever kept
