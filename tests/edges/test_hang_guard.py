"""What hangs in a test ends by itself, says where, and takes no other test with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

HANGING = """
import subprocess
import threading
import time

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st

pytestmark = pytest.mark.limit(0.5)


def test_in_its_own_code() -> None:
    while True:
        pass


def test_in_a_lock() -> None:
    threading.Event().wait()


def test_in_a_wait_for_a_process() -> None:
    subprocess.run(["sleep", "600"])


def test_in_trio() -> None:
    trio.run(trio.sleep_forever)


def test_under_a_mock_clock() -> None:
    trio.run(trio.sleep_forever, clock=trio.testing.MockClock(autojump_threshold=0))


def test_in_cleaning_up() -> None:
    try:
        pass
    finally:
        time.sleep(600)


@given(st.integers())
def test_in_a_property(number: int) -> None:
    time.sleep(600)


@pytest.fixture
def slow() -> None:
    time.sleep(600)


def test_in_a_fixture(slow: None) -> None:
    pass


def test_that_swallows_the_first_alarm() -> None:
    try:
        time.sleep(600)
    except BaseException:
        time.sleep(600)


def test_that_does_not_hang() -> None:
    pass
"""

DEAF = """
import pytest
import time


@pytest.mark.limit(0.2)
def test_deaf() -> None:
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
"""


def pytest_of(folder: Path, source: str, before: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "test_hanging.py").write_text(source)
    config = folder / "pytest.ini"
    config.write_text("[pytest]\nmarkers = limit(seconds): its time limit\n")
    code = f"import tests.hang_guard as guard\n{before}\nimport pytest, sys\n"
    code += f"sys.exit(pytest.main(['-c', {str(config)!r}, '-p', 'no:cacheprovider', '-p', 'tests.hang_guard', '-q', "
    code += f"{str(folder / 'test_hanging.py')!r}]))"
    argv = [sys.executable, "-c", code]
    # The limits it asserts are those written above.
    environ = os.environ | {"PYNCHY_TEST_SLOWNESS": "1"}
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=90, env=environ)


def test_whatever_hangs_fails_alone(tmp_path: Path) -> None:
    done = pytest_of(tmp_path, HANGING)
    assert "8 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "1 error" in done.stdout
    assert "call of test_hanging.py::test_in_a_lock: more than 0.5 s" in done.stdout
    assert "setup of test_hanging.py::test_in_a_fixture: more than 0.5 s" in done.stdout


def test_what_no_alarm_ends_is_ended_with_the_process_and_its_stack_is_shown(
    tmp_path: Path,
) -> None:
    done = pytest_of(tmp_path, DEAF, before="guard.limit.__wrapped__.__kwdefaults__['last'] = 1.0")
    assert done.returncode == 1
    assert "in test_deaf" in done.stderr
