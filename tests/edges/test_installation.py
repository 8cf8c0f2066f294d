"""An installation's id belongs to its place, and the engine that was chosen is stayed with."""

import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from pynchy.config.installation import install_id, known_install_id, last_engine
from pynchy.config.paths import Home
from pynchy.config.sources import from_environ
from pynchy.container.engines.runtime import NoRuntime
from pynchy.daemon.edges import find_runtime

HANG = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    file = tmp_path / "machine-id"
    file.write_text("0123\n")
    return file


# --- whose containers --------------------------------------------------------------------------------


def test_the_id_is_made_once(home: Home, machine: Path) -> None:
    # invariant 34
    made = install_id(home, machine_id=machine)
    assert install_id(home, machine_id=machine) == made
    assert known_install_id(home, machine_id=machine) == made


def test_a_copy_is_another_installation_and_the_original_keeps_its_id(
    home: Home, machine: Path, tmp_path: Path
) -> None:
    # invariant 34: else a copy's first start would remove the original's containers
    made = install_id(home, machine_id=machine)
    copy = Home(tmp_path / "copy")
    shutil.copytree(home.root, copy.root)
    assert known_install_id(copy, machine_id=machine) not in ("", made)
    other = install_id(copy, machine_id=machine)
    assert other != made
    assert (
        install_id(copy, machine_id=machine) == known_install_id(copy, machine_id=machine) == other
    )
    assert install_id(home, machine_id=machine) == made


def test_the_same_path_on_another_machine_is_another_installation(
    home: Home, machine: Path
) -> None:
    made = install_id(home, machine_id=machine)
    machine.write_text("4567\n")
    assert install_id(home, machine_id=machine) != made


def test_another_way_to_the_same_folder_is_no_copy(
    home: Home, machine: Path, tmp_path: Path
) -> None:
    made = install_id(home, machine_id=machine)
    (tmp_path / "link").symlink_to(home.root)
    assert install_id(Home(tmp_path / "link"), machine_id=machine) == made


def test_a_home_of_an_earlier_version_keeps_its_id(home: Home, machine: Path) -> None:
    home.install_id.write_text("0a1b2c3d\n")
    assert known_install_id(home, machine_id=machine) == "0a1b2c3d"
    assert install_id(home, machine_id=machine) == "0a1b2c3d"
    assert home.install_place.exists()


def test_who_only_looks_makes_nothing(home: Home, machine: Path) -> None:
    assert known_install_id(home, machine_id=machine) == "00000000"
    assert not home.install_id.exists()
    assert last_engine(home) is None


# --- which engine ------------------------------------------------------------------------------------

CLIENT = """#!/bin/sh
[ -e {up} ] || {{ echo "{down}" >&2; exit 1; }}
case "$*" in *image*) exit {image} ;; *) echo 20.10.24 ;; esac
"""
DOWN = "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"
DENIED = "permission denied while trying to connect to the Docker daemon socket at unix:///x"


class Docker:
    """A client on a PATH of its own, whose engine is up while a file is there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up = folder / "up"
        self.client = folder / "bin" / "docker"
        self.client.parent.mkdir()
        self.put(DOWN)
        monkeypatch.setenv("PATH", f"{self.client.parent}:{os.environ['PATH']}")
        # Nothing of this machine's own: podman is not asked, and bwrap is the only other.
        (folder / "bin" / "podman").write_text("#!/bin/sh\necho down >&2; exit 1\n")
        (folder / "bin" / "podman").chmod(0o755)

    def put(self, down: str, *, image: int = 0) -> None:
        self.client.write_text(CLIENT.format(up=self.up, down=down, image=image))
        self.client.chmod(0o755)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    return Docker(tmp_path, monkeypatch)


async def no_signals() -> AsyncIterator[int]:
    await trio.sleep_forever()
    yield signal.SIGTERM


async def choose(home: Home, notes: list[str], **environ: str) -> str:
    config = from_environ({"PYNCHY_HOME": str(home.root), **environ})
    with trio.fail_after(HANG):
        found = await find_runtime(config, no_signals(), told=notes.append)
    assert found is not None
    return found.name


async def test_after_a_boot_the_engine_of_before_is_waited_for(home: Home, docker: Docker) -> None:
    # invariant 109
    notes: list[str] = []
    docker.up.touch()
    assert await choose(home, notes) == "docker"
    assert last_engine(home) == "docker"
    docker.up.unlink()

    async with trio.open_nursery() as nursery:

        async def boot() -> None:
            await trio.sleep(0.3)
            docker.up.touch()

        nursery.start_soon(boot)
        assert await choose(home, notes) == "docker"
    assert notes == []


async def test_the_wait_has_an_end_and_nothing_weaker_is_taken(home: Home, docker: Docker) -> None:
    # invariant 109
    docker.up.touch()
    assert await choose(home, []) == "docker"
    docker.up.unlink()
    with pytest.raises(NoRuntime, match="docker, which held this home's agents until now"):
        await choose(home, [], PYNCHY_LIMITS_ENGINE_WAIT="0")
    assert last_engine(home) == "docker"


async def test_what_cannot_heal_is_not_waited_for(home: Home, docker: Docker) -> None:
    docker.put(DENIED)
    with pytest.raises(NoRuntime, match="usermod -aG docker"):
        await choose(home, [], PYNCHY_CONTAINER_ENGINE="docker", PYNCHY_LIMITS_ENGINE_WAIT="1 h")
    assert last_engine(home) is None, "what was asked for is not remembered as a choice"


async def test_an_image_that_is_gone_is_no_reason_to_take_another_engine(
    home: Home, docker: Docker
) -> None:
    docker.up.touch()
    assert await choose(home, []) == "docker"
    docker.put(DOWN, image=1)
    assert await choose(home, []) == "docker"
