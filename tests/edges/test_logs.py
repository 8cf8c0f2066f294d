"""The log of a real process: where lines go, and that nothing uncaught is missing from it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

PREAMBLE = """
import sys, threading
from pathlib import Path
from pynchy import logs
from pynchy.logs import logger
"""


def run(program: str, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + program, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def configured(**settings: object) -> str:
    given = "".join(f", {key}={value!r}" for key, value in settings.items())
    return f"logs.configure(logs.Setup(Path(sys.argv[1]){given}))\n"


def test_a_line_for_each_event_with_its_facts(tmp_path: Path) -> None:
    file = tmp_path / "log"
    done = run(
        configured()
        + "with logger.contextualize(group='family', turn=7):\n"
        + "    logger.info('turn ended {} s, {} replies', 12, 2)\n"
        + "logger.debug('never')\n",
        file,
    )
    line = file.read_text()
    assert line.endswith(" INFO     turn ended 12 s, 2 replies (group=family turn=7)\n")
    assert done.stderr == line
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_stderr_has_a_level_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "log"
    done = run(
        configured(stderr_level="warning", level="debug")
        + "logger.debug('the text')\nlogger.warning('look')\n",
        file,
    )
    assert "look" in done.stderr
    assert "the text" not in done.stderr
    assert "the text" in file.read_text()


def test_loguru_is_imported_at_the_first_line_that_is_written(tmp_path: Path) -> None:
    program = (
        "logger.debug('nobody wants this')\n"
        "print('loguru' in sys.modules)\nlogger.info('x')\nprint('loguru' in sys.modules)\n"
    )
    assert run(configured() + program, tmp_path / "log").stdout.split() == ["False", "True"]


def test_the_environment_of_loguru_is_not_ours(tmp_path: Path) -> None:
    for name, value in (("LOGURU_INFO_NO", "x"), ("LOGURU_AUTOINIT", "perhaps")):
        done = run(
            f"import os; os.environ[{name!r}] = {value!r}\n" + configured() + "logger.info('said')",
            tmp_path / name,
        )
        assert done.returncode == 0, done.stderr
        assert "said" in (tmp_path / name).read_text()


def test_who_has_loguru_already_writes_to_the_same_place(tmp_path: Path) -> None:
    file = tmp_path / "log"
    run("from loguru import logger as theirs\n" + configured() + "theirs.info('same')", file)
    assert file.read_text().count("same") == 1


UNCAUGHT = {
    "main": "raise LookupError('oh')",
    "thread": "t = threading.Thread(target=lambda: {}['oh'], name='worker'); t.start(); t.join()",
    "callback": (
        "class Oh:\n    def __del__(self): raise LookupError('oh')\nOh()\nimport gc; gc.collect()"
    ),
    "signal handler": (
        "import signal\n"
        "def oh(*_): raise LookupError('oh')\n"
        "signal.signal(signal.SIGUSR1, oh); signal.raise_signal(signal.SIGUSR1)"
    ),
    "trio": (
        "import trio\n"
        "async def child(): raise LookupError('oh')\n"
        "async def main():\n"
        "    async with trio.open_nursery() as n: n.start_soon(child)\n"
        "trio.run(main)"
    ),
    "trio callback": (
        "import trio\n"
        "def oh(): raise LookupError('oh')\n"
        "async def main():\n"
        "    trio.lowlevel.current_trio_token().run_sync_soon(oh); await trio.sleep(10)\n"
        "trio.run(main)"
    ),
}


@pytest.mark.parametrize("where", UNCAUGHT)
def test_what_nobody_caught_is_in_the_log(tmp_path: Path, where: str) -> None:
    file = tmp_path / "log"
    run(configured() + UNCAUGHT[where], file)
    text = file.read_text()
    assert "Error" in text
    assert "oh" in text
    assert "Traceback" in text
    entries = [line for line in text.splitlines() if not line.startswith("  | ")]
    assert len(entries) == 1


def test_an_exceptions_own_text_begins_no_entry_and_shows_no_variables(tmp_path: Path) -> None:
    # threat D6
    file = tmp_path / "log"
    run(
        configured(secrets=("hunter2hunter2",))
        + "token = 'not-in-the-log'\n"
        + "try: raise ValueError('x\\n2026-01-01 00:00:00 INFO     fake hunter2hunter2')\n"
        + "except ValueError: logger.exception('failed for {}', 'g\\n2026')\n",
        file,
    )
    text = file.read_text()
    assert "hunter2" not in text
    assert "not-in-the-log'" not in text.replace("token = 'not-in-the-log'", "")
    heads = [line for line in text.splitlines() if not line.startswith("  | ")]
    assert len(heads) == 1
    assert heads[0].endswith("failed for g\\n2026")


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    run(
        configured(as_json=True)
        + "with logger.contextualize(group='g'): logger.info('a\\nb')\n"
        + "try: {}['x']\nexcept KeyError: logger.exception('oh')\n",
        file,
    )
    first, second = [json.loads(line) for line in file.read_text().splitlines()]
    assert (first["level"], first["message"], first["group"]) == ("info", "a\\nb", "g")
    assert "KeyError" in second["exception"][-1]


def test_files_rotate_and_the_old_go(tmp_path: Path) -> None:
    file = tmp_path / "log"
    run(
        configured(rotate=4096, keep=2, stderr_level="error")
        + "for n in range(1000): logger.info('line {} {}', n, 'x' * 60)\n",
        file,
    )
    assert len(list(tmp_path.iterdir())) == 3
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4 * 4096
    assert "line 999 " in file.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    # threat D6
    full = tmp_path / "log"
    full.symlink_to("/dev/full")
    done = run(configured() + "for n in range(3): logger.info('x')\nprint('alive')\n", full)
    assert done.stdout == "alive\n"
    assert done.returncode == 0


def test_libraries_that_warn_through_the_standard_library_are_heard(tmp_path: Path) -> None:
    file = tmp_path / "log"
    run(
        configured()
        + "logger.info('first')\nimport logging\n"
        + "logging.getLogger('lib').warning('careful %s', 'now')\n"
        + "logging.getLogger('lib').info('chatter')\n",
        file,
    )
    text = file.read_text()
    assert "WARNING  lib: careful now" in text
    assert "chatter" not in text


def test_a_reader_who_stopped_costs_lines_and_not_the_daemon(tmp_path: Path) -> None:
    program = "for n in range(1000):\n    logger.info('{} {}', n, 'x' * 500)\nprint('went on')\n"
    argv = [sys.executable, "-c", PREAMBLE + configured() + program, str(tmp_path / "log")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(60) == 0  # with nobody at the other end of stderr
            assert process.stdout is not None
            assert process.stdout.read() == b"went on\n"
        finally:
            process.kill()
    assert len((tmp_path / "log").read_text().splitlines()) == 1000


def test_a_process_without_stderr_still_logs(tmp_path: Path) -> None:
    file = tmp_path / "log"
    program = PREAMBLE + configured() + "logger.info('heard')"
    pid = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$@" 2>&- >&-', "sh", sys.executable, "-c", program, str(file)],
        env=os.environ,
    )
    assert pid.wait(timeout=60) == 0
    assert "heard" in file.read_text()
