"""A plugin of pytest: what came of each test, and what must hold after every attack, whatever it was.

A secret stands in the environment of every test, and beside it a folder that nobody has a reason to touch. After
each test the secret must be in nothing that it said or left behind, and the folder must be as it was.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.redteam.siege import memory_of, tree

OUT: Final = "REDTEAM_OUT"
NAME: Final = "REDTEAM_SECRET"
MOST_READ: Final = 256 << 20  # bytes of what one test has left behind


@attrs.define
class Watcher:
    """Keeps the account of one run of pytest."""

    out: Path
    secret: str
    bystander: Path
    was: str
    outcomes: dict[str, list[str]] = attrs.Factory(dict)
    reasons: dict[str, str] = attrs.Factory(dict)
    wrong: list[str] = attrs.Factory(list)
    grown: int = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = memory_of(os.getpid())
        result = yield
        self.grown = max(self.grown, memory_of(os.getpid()) - before)
        if tree(self.bystander) != self.was:
            self.wrong.append(f"{item.nodeid}: something outside changed")
            self.was = tree(self.bystander)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        left = (getattr(item, "funcargs", None) or {}).get("tmp_path")
        result = yield  # whatever the test had started is gone after
        if isinstance(left, Path) and left.is_dir() and (found := self.holding(left)):
            self.wrong.append(f"{item.nodeid}: a secret in {found}")
        return result

    def holding(self, top: Path) -> str:
        """The first file below a folder that holds the secret, as far down as a path goes."""
        room, todo = MOST_READ, [str(top)]
        while todo:
            with suppress(OSError), os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        size = entry.stat(follow_symlinks=False).st_size
                        if size <= room and self.secret.encode() in Path(entry).read_bytes():
                            return entry.path
                        room -= min(size, room)
        return ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        node = report.nodeid.partition("[")[0]
        if report.when == "call" or report.outcome != "passed":
            self.outcomes.setdefault(node, []).append(report.outcome)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.reasons[node] = report.longrepr[2].removeprefix("Skipped: ")
        if any(self.secret in text for _, text in report.sections):
            self.wrong.append(f"{report.nodeid}: a secret in what it said")

    def pytest_sessionfinish(self) -> None:
        account = {
            "outcomes": self.outcomes,
            "reasons": self.reasons,
            "wrong": self.wrong,
            "grown": self.grown,
        }
        self.out.write_text(json.dumps(account), encoding="utf-8")
        shutil.rmtree(self.bystander)


def pytest_configure(config: pytest.Config) -> None:
    secret = os.environ[NAME] = f"canary-{secrets.token_hex(8)}"
    bystander = Path(tempfile.mkdtemp(prefix="bystander-"))
    (bystander / ".ssh").mkdir()
    (bystander / ".ssh" / "id_ed25519").write_text("a key")
    (bystander / "notes.txt").write_text("nothing happened here")
    config.pluginmanager.register(
        Watcher(Path(os.environ[OUT]), secret, bystander, tree(bystander)), "redteam"
    )
