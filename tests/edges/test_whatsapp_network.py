"""The kernel's word of a new way to the internet, in a network of the test's own."""

import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

LISTEN = """
import subprocess, trio
from pynchy.whatsapp import network

async def main():
    heard = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.watch, lambda: (print("changed", flush=True), heard.set()))
        await trio.testing.wait_all_tasks_blocked()
        for words in (["link", "set", "lo", "up"], ["route", "add", "10.9.0.0/16", "dev", "lo"]):
            subprocess.run(["ip", *words], check=True)
        await trio.testing.wait_all_tasks_blocked(0.2)
        print("now", flush=True)
        subprocess.run(["ip", "route", "add", "default", "dev", "lo"], check=True)
        await heard.wait()
        nursery.cancel_scope.cancel()

import trio.testing
trio.run(main)
"""


def _own_network() -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--net"]


@pytest.mark.skipif(
    sys.platform != "linux"
    or which("ip") is None
    or which("unshare") is None
    or subprocess.run([*_own_network(), "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a network of its own, and ip",
)
def test_a_default_route_is_told_and_no_other(tmp_path: Path) -> None:
    heard = subprocess.run(
        [*_own_network(), sys.executable, "-c", LISTEN],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert heard.stdout.split() == ["now", "changed"], heard.stderr
