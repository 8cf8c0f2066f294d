"""The doctor's checks, each with the thing it looks at broken on purpose."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio

from pynchy import doctor
from pynchy.config import Config, WhatsApp
from pynchy.home import Home
from pynchy.lock import open_lock


@pytest.fixture
def patient(tmp_path: Path) -> doctor.Patient:
    home = Home(tmp_path / "home")
    home.make()
    return doctor.Patient(
        home=home,
        environ={},
        user_home=tmp_path,
        config=Config(home=home),
        problems=(),
        runtime=None,
        no_runtime="nothing here",
        running=False,
        platform="linux",
    )


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def _old_copy(home: Home) -> None:
    _write(home.database, "", 0o600)
    copies = home.store / "backups"
    copies.mkdir()
    _write(copies / "a.db", "", 0o600)
    os.utime(copies / "a.db", (0, 0))


def _left_over(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home.control_socket))


BROKEN: dict[str, tuple[str, Callable[[Home], object]]] = {
    "home": ("warn", lambda home: shutil.rmtree(home.root)),
    "folders": ("fail", lambda home: home.store.chmod(0o755)),
    "env file": ("fail", lambda home: _write(home.env, "", 0o644)),
    "database mode": ("fail", lambda home: _write(home.database, "", 0o644)),
    "database": ("fail", lambda home: _write(home.database, "no database" * 99, 0o600)),
    "backups": ("warn", _old_copy),
    "allowlist": ("fail", lambda home: _write(home.mount_allowlist, "{", 0o600)),
    "control": ("warn", _left_over),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_is_found_with_what_to_do(name: str, patient: doctor.Patient) -> None:
    level, spoil = BROKEN[name]
    assert (await doctor.CHECKS[name](patient)).level == "ok"
    spoil(patient.home)
    found = await doctor.CHECKS[name](patient)
    assert found.level == level
    assert found.advice
    if found.fix is not None:
        await found.fix()
        assert (await doctor.CHECKS[name](patient)).level == "ok"


async def test_facts_that_are_wrong_are_found(patient: doctor.Patient) -> None:
    config = Config(home=patient.home, whatsapp=WhatsApp(enabled=True))
    wrong: dict[str, doctor.Patient] = {
        "python": attrs.evolve(patient, python=(3, 10, 1)),
        "config": attrs.evolve(patient, problems=("limits: unknown",)),
        "credential": patient,
        "engine": patient,
        "whatsapp": attrs.evolve(patient, config=config),
        "timezone": attrs.evolve(patient, environ={"TZ": "Nowhere/At/All"}),
        "control": attrs.evolve(patient, running=True),
        "running": patient,
        "service": patient,
        "socket path": attrs.evolve(patient, home=Home(Path("/" + "x" * 120))),
    }
    for name, each in wrong.items():
        found = await doctor.CHECKS[name](each)
        assert found.level != "ok", name
        assert found.advice, name


async def test_a_socket_is_not_removed_under_a_daemon(patient: doctor.Patient) -> None:
    _left_over(patient.home)
    found = await doctor.CHECKS["control"](patient)
    assert found.fix is not None
    with open_lock(patient.home.lock):
        await found.fix()
    assert patient.home.control_socket.exists()


async def test_a_check_that_fails_is_a_finding(patient: doctor.Patient) -> None:
    patient.home.log.symlink_to(patient.home.log)
    patient.home.env.symlink_to(patient.home.env)
    found = dict(await doctor.diagnose(patient))
    assert found["env file"].level == "fail"
    assert len(found) == len(doctor.CHECKS) >= 20


async def test_the_command_works_on_an_empty_home_and_makes_nothing(tmp_path: Path) -> None:
    done = await trio.run_process(
        [sys.executable, "-m", "pynchy", "doctor", "--json"],
        env={
            "PYNCHY_HOME": str(tmp_path / "none"),
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "PYNCHY_CONTAINER_ENGINE": "bwrap",
        },
        capture_stdout=True,
        check=False,
    )
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 1
    assert rows["credential"]["level"] == "fail"
    assert rows["home"]["level"] == "warn"
    assert not (tmp_path / "none").exists()
