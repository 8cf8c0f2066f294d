"""The doctor's checks, each with the thing it looks at broken on purpose."""

import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import attrs
import pytest
import trio

from pynchy.config.paths import Home
from pynchy.config.settings import Config, Container, Gateway, Voice, WhatsApp
from pynchy.config.values import GIB, MIB
from pynchy.container import toolbox
from pynchy.container.engines.runtime import Runtime, SpawnFailed
from pynchy.daemon import service_files
from pynchy.daemon.lock import open_lock
from pynchy.doctor import checks
from pynchy.files.disk import Space
from pynchy.gateway.upstream import Verdict
from pynchy.store import whatsapp_session as session

from .test_whatsapp_session import killed_while_writing


@pytest.fixture
def patient(tmp_path: Path) -> checks.Patient:
    home = Home(tmp_path / "home")
    home.make()
    return checks.Patient(
        home=home,
        environ={},
        user_home=tmp_path,
        config=Config(home=home),
        problems=(),
        runtime=None,
        no_runtime="nothing here",
        running=False,
        platform="linux",
        build=tmp_path / "build.sh",
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
async def test_what_is_broken_is_found_with_what_to_do(name: str, patient: checks.Patient) -> None:
    level, spoil = BROKEN[name]
    assert (await checks.CHECKS[name](patient)).level == "ok"
    spoil(patient.home)
    found = await checks.CHECKS[name](patient)
    assert found.level == level
    assert found.advice
    if found.fix is not None:
        await found.fix()
        assert (await checks.CHECKS[name](patient)).level == "ok"


async def test_a_database_that_is_gone_while_copies_exist_is_said(patient: checks.Patient) -> None:
    _old_copy(patient.home)
    patient.home.database.unlink()
    copy = patient.home.backups / "a.db"
    found = await checks.check_backups(patient)
    assert (found.level, found.advice) == ("warn", f"pynchy restore {copy}")
    assert "gone" in found.what
    found = await checks.check_database(patient)
    assert found.level == "fail"
    assert f"pynchy restore {copy}" in found.what


@attrs.frozen
class Engine:
    """What the checks ask of an engine, one with everything wrong."""

    name: str = "podman"

    async def list(self) -> list[str]:
        return ["pynchy-00000000-left"]

    async def remove(self, name: str) -> None:
        raise AssertionError("no check removes anything")

    async def versions(self) -> dict[str, str]:
        return {"runc": "1.1.5"}

    async def storage_driver(self) -> str:
        return "vfs"

    async def limits_held(self) -> dict[str, str]:
        return {"memory": "cgroup", "cpus": ""}


def wrong_facts(patient: checks.Patient) -> dict[str, checks.Patient]:
    """For each check a patient whom it must not find well."""
    enabled = Config(home=patient.home, whatsapp=WhatsApp(enabled=True))
    unheard = Config(home=patient.home, voice=Voice(enabled=True))
    behind = Config(home=patient.home, gateway=Gateway(proxy="http://127.0.0.1:9"))
    engine = attrs.evolve(patient, runtime=cast("Runtime", Engine()))
    bwrap = attrs.evolve(patient, runtime=cast("Runtime", Engine("bwrap")))
    nothing = attrs.evolve(patient, is_installed=lambda module: False)
    (installed,) = service_files.places(patient.user_home, {}, platform="linux")
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    enforce = patient.user_home / "enforce"
    enforce.write_text("1")
    unit = attrs.evolve(patient, lingering=patient.user_home / "none", environ={"USER": "me"})
    return {
        "python": attrs.evolve(patient, python=(3, 10, 1)),
        "config": attrs.evolve(patient, problems=("limits: unknown",)),
        "credential": patient,
        "proxy": attrs.evolve(patient, config=behind),
        "environment": attrs.evolve(patient, environ={"ALL_PROXY": "socks5://localhost:1080"}),
        "engine": patient,
        "limits": engine,
        "watching": attrs.evolve(patient, unwatched=lambda: "inotify: Too many open files"),
        "escapes": engine,
        "storage": engine,
        "selinux": attrs.evolve(engine, selinux=enforce),  # invariant 113
        "image": engine,
        "agent": nothing,
        "toolbox": attrs.evolve(bwrap, tools=patient.home.root / "none"),
        "programs": attrs.evolve(bwrap, lacking=lambda: toolbox.lacking("", patient.home.root)),
        "sdk": nothing,
        "disk": attrs.evolve(patient, space=lambda path: Space(free=99 * MIB, total=9 * GIB)),
        "clock": attrs.evolve(patient, now=0.0),
        "prices": attrs.evolve(patient, now=1_900_000_000.0),
        "timezone": attrs.evolve(patient, environ={"TZ": "Nowhere/At/All"}),
        "whatsapp": attrs.evolve(patient, config=enabled),
        "voice": attrs.evolve(engine, config=unheard),
        "control": attrs.evolve(patient, running=True),
        "running": patient,
        "orphans": engine,
        "log": attrs.evolve(patient, home=Home(patient.home.root / "other")),
        "service": attrs.evolve(patient, user_home=patient.user_home / "other"),
        "linger": unit,
        "socket path": attrs.evolve(patient, home=Home(Path("/" + "x" * 120))),
    }


async def test_facts_that_are_wrong_are_found(patient: checks.Patient) -> None:
    _write(patient.build, "#!/bin/sh\nexit 1\n", 0o755)
    (patient.home.root / "other" / "logs" / "pynchy.log").mkdir(parents=True)
    for name, each in wrong_facts(patient).items():
        found = await checks.CHECKS[name](each)
        assert found.level != "ok", name
        assert found.advice, name


def test_every_check_is_broken_on_purpose(patient: checks.Patient) -> None:
    assert {*BROKEN, *wrong_facts(patient)} == set(checks.CHECKS)


async def test_what_agents_could_use_and_this_machine_lacks_is_listed(
    patient: checks.Patient,
) -> None:
    found = await checks.check_programs(wrong_facts(patient)["programs"])
    for name in ("pdftoppm", "tesseract", "opusdec", "ffmpeg", "CJK"):
        assert name in found.what
    assert found.advice.startswith("apt-get install poppler-utils tesseract-ocr ")
    podman = attrs.evolve(patient, runtime=cast("Runtime", Engine()))
    for check in (checks.check_programs, checks.check_toolbox):
        assert (await check(podman)).what == "in the image"


async def test_selinux_is_no_trouble_where_it_is_off_or_not_there(patient: checks.Patient) -> None:
    engine = attrs.evolve(patient, runtime=cast("Runtime", Engine()))
    for place, content in ((patient.user_home / "permissive", "0"), (patient.user_home / "no", "")):
        if content:
            place.write_text(content)
        assert (await checks.check_selinux(attrs.evolve(engine, selinux=place))).level == "ok"


async def test_limits_that_cannot_be_seen_are_not_called_enforced(patient: checks.Patient) -> None:
    class Bare(Engine):
        async def limits_held(self) -> dict[str, str]:
            raise SpawnFailed("podman", "there is no image")

    seen = await checks.check_limits(attrs.evolve(patient, runtime=cast("Runtime", Bare())))
    assert (seen.level, seen.what) == ("warn", "cannot be seen: there is no image")


async def test_an_image_that_is_not_there_is_not_called_old(patient: checks.Patient) -> None:
    engine = attrs.evolve(patient, runtime=cast("Runtime", Engine()))
    for code, level, what in ((1, "warn", "older"), (3, "warn", "not built"), (69, "ok", "cannot")):
        _write(patient.build, f"#!/bin/sh\nexit {code}\n", 0o755)
        seen = await checks.check_image(engine)
        assert (seen.level, seen.what.startswith(what)) == (level, True)


async def test_an_image_that_is_up_to_date_and_one_of_your_own_are_well(
    patient: checks.Patient,
) -> None:
    _write(patient.build, '#!/bin/sh\n[ "$*" = "--check podman" ]\n', 0o755)
    engine = attrs.evolve(patient, runtime=cast("Runtime", Engine()))
    assert (await checks.check_image(engine)).what == "up to date"
    mine = Config(home=patient.home, container=Container(image="registry.example/mine:1"))
    assert (await checks.check_image(attrs.evolve(engine, config=mine))).level == "ok"


@asynccontextmanager
async def model_api(status: int, headers: str = "") -> AsyncIterator[tuple[str, list[bytes]]]:
    """Something that answers every request with this status; its address, and what it was sent."""
    seen: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            seen.append(await stream.receive_some(65536))
            head = f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\n{headers}\r\n{{}}"
            await stream.send_all(head.encode())

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}", seen
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "level"), [(200, "ok"), (401, "fail"), (403, "warn"), (500, "warn")]
)
async def test_a_credential_is_tried_by_one_call_that_costs_nothing(
    tmp_path: Path, status: int, level: str
) -> None:
    with trio.fail_after(60):
        async with model_api(status) as (url, seen):
            environ = {
                "PYNCHY_HOME": str(tmp_path / "home"),
                "PYNCHY_CONTAINER_ENGINE": "bwrap",
                "PYNCHY_MODEL_BASE_URL": url,
                "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-planted",
                "PATH": os.environ["PATH"],
            }
            patient = await checks.examine(environ, user_home=tmp_path, online=True)
    found = await checks.check_credential(patient)
    assert found.level == level
    assert "planted" not in found.what + found.advice
    (request,) = seen
    assert request.startswith(b"GET /v1/models?limit=1 ")
    assert b"\r\nauthorization: bearer sk-ant-oat01-planted\r\n" in request.lower()


async def test_nobody_who_answers_is_no_refusal(patient: checks.Patient, tmp_path: Path) -> None:
    environ = {
        "PYNCHY_HOME": str(tmp_path / "home"),
        "PYNCHY_CONTAINER_ENGINE": "bwrap",
        "PYNCHY_MODEL_BASE_URL": "http://127.0.0.1:9",
        "ANTHROPIC_API_KEY": "sk-ant-planted",
        "PATH": os.environ["PATH"],
    }
    silent = await checks.examine(environ, user_home=tmp_path, online=True)
    assert (await checks.check_credential(silent)).level == "warn"
    offline = await checks.examine(environ, user_home=tmp_path)
    assert (await checks.check_credential(offline)).level == "ok"


async def test_a_clock_is_compared_with_the_api_and_with_the_log(patient: checks.Patient) -> None:
    late = attrs.evolve(patient, online=True, verdict=Verdict(200, 3600.0))
    assert "3600 s behind" in (await checks.check_clock(late)).what
    near = attrs.evolve(patient, online=True, verdict=Verdict(200, -3.0))
    assert (await checks.check_clock(near)).level == "ok"
    patient.home.log.write_text("")
    behind = attrs.evolve(patient, now=patient.home.log.stat().st_mtime - 3600)
    assert (await checks.check_clock(behind)).level == "warn"


async def test_a_socket_is_not_removed_under_a_daemon(patient: checks.Patient) -> None:
    _left_over(patient.home)
    found = await checks.CHECKS["control"](patient)
    assert found.fix is not None
    with open_lock(patient.home.lock):
        await found.fix()
    assert patient.home.control_socket.exists()


async def test_a_check_that_fails_is_a_finding(patient: checks.Patient) -> None:
    patient.home.log.symlink_to(patient.home.log)
    patient.home.env.symlink_to(patient.home.env)
    found = dict(await checks.diagnose(patient))
    assert found["env file"].level == "fail"
    assert len(found) == len(checks.CHECKS) >= 20


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


async def test_a_whatsapp_session_is_looked_into(patient: checks.Patient) -> None:
    """A file alone is no link, and one that cannot be read is no proof that there is none."""
    enabled = attrs.evolve(
        patient, config=Config(home=patient.home, whatsapp=WhatsApp(enabled=True))
    )
    store = patient.home.store
    store.mkdir(parents=True, exist_ok=True)
    path = store / "whatsapp.db"
    path.touch()
    assert (await checks.check_whatsapp(enabled)).what == "enabled, but not linked"
    path.write_bytes(b"no database " * 500)
    damaged = await checks.check_whatsapp(enabled)
    assert (damaged.level, damaged.advice) == (
        "fail",
        "pynchy auth whatsapp --again (the chats stay)",
    )
    path.unlink()
    path = killed_while_writing(store)
    assert (await checks.check_whatsapp(enabled)).level == "warn"
    assert session.linked(path, ours=True) is not None  # and the kill's traces are gone
    assert (await checks.check_whatsapp(enabled)).what == "linked as +4917"
