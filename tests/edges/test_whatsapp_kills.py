"""No message is lost, and none changes its place, whoever is killed in the middle."""

import subprocess
import sys
import time
from pathlib import Path

from .test_whatsapp import link

CONSUMER = Path(__file__).with_name("whatsapp_consumer.py")


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_nothing_is_lost_when_the_daemon_is_killed(tmp_path: Path) -> None:
    """Killed twice in the middle; what was handed over by WhatsApp is there in the end, in order."""
    total = 1500
    link(tmp_path / "store")
    argv = [sys.executable, str(CONSUMER), str(tmp_path), str(total)]
    for part in (1, 2):
        child = subprocess.Popen(argv)
        deadline = time.monotonic() + 60
        while lines_of(tmp_path / "book") < part * total // 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        child.kill()
        child.wait()
    subprocess.run(argv, timeout=120, check=True)
    ids = (tmp_path / "book").read_text().split()
    assert ids == [f"M{number:08}" for number in range(total)]
