"""Which engine is taken, and Apple's container against a stand-in that answers as the real one was seen to."""

import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import trio

from pynchy.container.engines.bwrap import find_bwrap
from pynchy.container.engines.choice import open_runtime
from pynchy.container.engines.oci import (
    apple_names,
    apple_versions,
    docker_versions,
    podman_versions,
)
from pynchy.container.engines.runtime import Installation, NoRuntime, Runtime, SpawnFailed
from pynchy.container.spec import AGENT_COMMAND, Spec
from tests.edges.runtimes import HANG, everything

# The commands of Apple's container that we use. State is a folder: `up`, and a file for each container with its pid.
STAND_IN = """
import json, os, signal, sys
state, argv = {state!r}, sys.argv[1:]
with open(state + "/argv", "a") as log: log.write(json.dumps(argv) + "\\n")
def path(name): return state + "/containers/" + name
if "LEAK" in os.environ: sys.exit("our environment came along")
if argv[:2] == ["system", "start"]:
    if os.path.exists(state + "/broken"): sys.exit("kernel not installed")
    open(state + "/up", "w"); sys.exit(0)
if not os.path.exists(state + "/up"):
    print('{{"status": "not running"}}'); sys.exit(1)
if argv[:2] == ["system", "status"]: print('{{"status": "running"}}')
elif argv[:2] == ["system", "version"]: print('[{{"appName": "container", "version": "1.2.2"}}]')
elif argv[0] == "run":
    name = argv[argv.index("--name") + 1]
    labels = dict(argv[i + 1].split("=") for i, word in enumerate(argv) if word == "-l")
    if "missing:1" in argv: sys.exit("Error: image missing:1 not found")
    json.dump({{"pid": os.getpid(), "labels": labels}}, open(path(name), "w"))
    for line in sys.stdin: sys.stdout.write(line.upper()); sys.stdout.flush()
    if os.path.exists(state + "/stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: signal.pause()
    os.unlink(path(name)); sys.exit(3)
elif argv[0] == "list":
    found = []
    for name in os.listdir(state + "/containers"):
        fact = json.load(open(path(name)))
        found.append({{"id": name, "status": {{"state": "running"}}, "configuration": {{"labels": fact["labels"]}}}})
    print(json.dumps(found))
elif argv[0] in ("stop", "delete"):
    name = argv[-1]
    if not os.path.exists(path(name)): sys.exit("Error: not found")
    pid = json.load(open(path(name)))["pid"]
    try: os.kill(pid, signal.SIGTERM if argv[0] == "stop" else signal.SIGKILL)
    except ProcessLookupError: pass  # it ended by itself, and its entry is still to be deleted
    if argv[0] == "delete": os.unlink(path(name))
elif argv[:2] == ["image", "inspect"]: sys.exit(1 if argv[2] == "missing:1" else 0)
else: sys.exit("unknown: " + argv[0])
"""


class Machine:
    """A PATH with stand-ins on it, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        (folder / "containers").mkdir()

    def put(self, name: str, source: str) -> None:
        file = self.programs / name
        file.write_text(f"#!{sys.executable} -IS\n{source}")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def put_apple(self) -> None:
        self.put("container", STAND_IN.format(state=str(self.folder)))

    @property
    def environ(self) -> Mapping[str, str]:
        return {"PATH": str(self.programs), "HOME": str(self.folder), "LEAK": "1"}

    async def choose(
        self,
        engine: str | None = None,
        *,
        platform: str = "linux",
        image: str = "agent:1",
        last: str | None = None,
        told: Callable[[str], object] = lambda note: None,
    ) -> Runtime:
        return await open_runtime(
            engine,
            Installation("0a1b2c3d", image, self.folder, self.environ),
            platform=platform,
            last=last,
            told=told,
        )

    def said(self) -> list[list[str]]:
        return [json.loads(text) for text in (self.folder / "argv").read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


SPEC = Spec(
    name="pynchy-0a1b2c3d-0123456789abcdef",
    run="0123456789abcdef",
    install="0a1b2c3d",
    image=None,
    mounts=(),
)

ANSWERS = "print('20.10.24' if 'version' in __import__('sys').argv else '{\"rootless\": false}')"
DOCKER_DOWN = "import sys; sys.exit('Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?')"
DOCKER_DENIED = """import sys
sys.exit('permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock')"""
DOWN = "import sys; sys.exit('Cannot connect to the daemon. Is it running?')"


async def test_the_first_that_answers_is_taken(machine: Machine) -> None:
    # decision 28
    machine.put("podman", ANSWERS)
    assert (await machine.choose()).name == "podman"
    machine.put("docker", DOWN)
    assert (await machine.choose()).name == "podman"
    machine.put("docker", ANSWERS)
    assert (await machine.choose()).name == "docker"
    assert (await machine.choose("podman")).name == "podman"
    machine.put_apple()
    assert (await machine.choose(platform="darwin")).name == "container"


async def test_an_engine_without_the_image_stands_back_for_one_that_needs_none(
    machine: Machine,
) -> None:
    # decision 28
    bare = f"import sys\nif 'image' in sys.argv: sys.exit('no such image')\n{ANSWERS}"
    machine.put("docker", bare)
    machine.put("podman", ANSWERS)
    bwrap = await find_bwrap(Installation("0a1b2c3d", None, machine.folder, os.environ))
    assert bwrap.name == "bwrap"  # or nothing below says anything
    ours = os.environ | {"PATH": f"{machine.programs}:{os.environ['PATH']}"}
    choose = partial(open_runtime, ours=Installation("0a1b2c3d", "agent:1", machine.folder, ours))
    assert (await choose(None)).name == "podman"
    machine.put("podman", bare)
    notes: list[str] = []
    assert (await choose(None, told=notes.append)).name == "bwrap"
    assert "just image docker" in notes[0]
    assert (await choose("docker")).name == "docker"  # what was asked for is taken
    machine.put("docker", ANSWERS)
    assert (await choose(None)).name == "docker"
    machine.put("docker", bare)
    machine.put("bwrap", "import sys; sys.exit('bwrap: No permissions')")
    assert (await choose(None)).name in ("docker", "bwrap")  # the one of a package may be beside us


async def test_the_engine_of_the_last_start_is_stayed_with(machine: Machine) -> None:
    machine.put("podman", ANSWERS)
    machine.put("docker", ANSWERS)
    notes: list[str] = []
    assert (await machine.choose(last="podman", told=notes.append)).name == "podman"
    machine.put("docker", DOCKER_DOWN)
    with pytest.raises(NoRuntime, match="docker, which held this home's agents until now") as down:
        await machine.choose(last="docker", told=notes.append)
    assert down.value.heals
    assert "systemctl start docker" in str(down.value)
    assert notes == []
    machine.put("docker", DOCKER_DENIED)
    with pytest.raises(NoRuntime, match="usermod -aG docker") as denied:
        await machine.choose(last="docker")
    assert not denied.value.heals, "no waiting puts anybody into a group"


async def test_a_change_of_engine_is_said(machine: Machine) -> None:
    machine.put("podman", ANSWERS)
    notes: list[str] = []
    assert (await machine.choose(last="docker", told=notes.append)).name == "podman"
    assert notes[0].startswith("docker is not installed, so podman is used")
    assert (await machine.choose(last="bwrap", told=notes.append)).name == "podman"
    assert notes[1] == "podman has the agent's image now, so it is used instead of bwrap"
    assert (await machine.choose(last="bwrap", platform="darwin")).name == "podman"
    machine.put("docker", DOCKER_DENIED)
    assert (await machine.choose(told=notes.append)).name == "podman"
    assert "docker is installed, but does not answer" in notes[2]
    assert "usermod -aG docker" in notes[2]
    assert (await machine.choose(last="podman", told=notes.append)).name == "podman"
    assert len(notes) == 3, "not again at each start"


async def test_where_nothing_answers_one_is_told_what_to_install(machine: Machine) -> None:
    # decision 28: never without a sandbox
    machine.put("docker", DOWN)
    with pytest.raises(NoRuntime) as refused:
        await machine.choose(platform="darwin")
    said = str(refused.value)
    assert "docker: installed, but does not answer (Cannot connect to the daemon" in said
    assert "podman: not installed" in said
    assert "github.com/apple/container" in said
    with pytest.raises(NoRuntime, match="apt-get install podman uidmap") as missing:
        await machine.choose("podman")
    assert not missing.value.heals
    machine.put("bwrap", "import sys; sys.exit('bwrap: No permissions to create a new namespace')")
    try:
        chosen = await machine.choose("bwrap")
    except NoRuntime as refusal:  # no other was beside us
        said = str(refusal)
    else:
        said = (await chosen.versions())["bwrap"]
    assert "No permissions to create a new namespace" in said or said.startswith("0.")


async def test_an_unknown_engine_is_refused(machine: Machine) -> None:
    with pytest.raises(NoRuntime, match="'none'"):
        await machine.choose("none")


async def test_apples_system_is_started_when_it_is_down(machine: Machine) -> None:
    machine.put_apple()
    assert (await machine.choose("container")).name == "container"
    assert machine.said() == [
        ["system", "status", "--format", "json"],
        ["system", "start", "--enable-kernel-install"],
        ["system", "status", "--format", "json"],
    ]
    (machine.folder / "up").unlink()
    (machine.folder / "broken").touch()
    with pytest.raises(NoRuntime, match="not running"):
        await machine.choose("container")


async def test_a_conversation_with_apples_container(machine: Machine) -> None:
    machine.put_apple()
    runtime = await machine.choose("container")
    with trio.fail_after(HANG):
        async with runtime.open(SPEC, grace=5) as container:
            await container.send(b"hello\n")
            assert await container.receive() == b"HELLO\n"
            assert await runtime.list() == [SPEC.name]
        assert await container.wait() == 3
    assert await runtime.list() == []
    (run,) = [argv for argv in machine.said() if argv[0] == "run"]
    assert run[-5:] == ["agent:1", *AGENT_COMMAND]
    assert await runtime.versions() == {"container": "1.2.2"}


async def test_apples_container_is_ended_by_name(machine: Machine) -> None:
    # invariant 81
    machine.put_apple()
    runtime = await machine.choose("container")
    (machine.folder / "stubborn").touch()
    with trio.fail_after(HANG):
        async with runtime.open(SPEC, grace=0.1) as container:
            await container.send(b"hello\n")
            assert await container.receive() == b"HELLO\n"
        words = [argv[0] for argv in machine.said()]
        assert words.index("run") < words.index("stop") < words.index("delete")
        async with runtime.open(SPEC, grace=1000) as container:
            await container.send(b"hello\n")
            assert await container.receive() == b"HELLO\n"
            container.kill()
            assert await everything(container) == b""
            assert await container.wait() == 137
    assert await runtime.list() == []


async def test_apple_without_the_image(machine: Machine) -> None:
    machine.put_apple()
    runtime = await machine.choose("container", image="missing:1")
    async with runtime.open(SPEC, grace=1) as container:
        assert await everything(container) == b""
        assert await container.wait() != 0
    assert b"image missing:1 not found" in container.stderr_tail()


async def test_a_client_that_vanished_is_a_failed_spawn(machine: Machine) -> None:
    # invariant 95
    machine.put("docker", ANSWERS)
    runtime = await machine.choose("docker")
    (machine.programs / "docker").unlink()
    with pytest.raises(SpawnFailed, match="docker"):
        async with runtime.open(SPEC, grace=1):
            raise AssertionError


# --- what engines were seen to answer ------------------------------------------------------------------


def test_apples_list_of_old_releases_and_new() -> None:
    old = '[{"status":"running","configuration":{"id":"a","labels":{"pynchy.install":"01"}}}]'
    new = '[{"id":"b","status":{"state":"stopped"},"configuration":{"labels":{"pynchy.install":"01"}}}]'
    foreign = '[{"id":"c","configuration":{"labels":{"pynchy.install":"02"}}},{"id":"d"}]'
    assert apple_names(old, "01") == ["a"]
    assert apple_names(new, "01") == ["b"]
    assert apple_names(foreign, "01") == []
    assert apple_names("", "01") == apple_names("null", "01") == []


def test_versions_are_read_from_what_engines_say() -> None:
    # threat X8
    docker = {
        "Version": "20.10.24+dfsg1",
        "Components": [
            {"Name": "Engine", "Version": "20.10.24+dfsg1"},
            {"Name": "containerd", "Version": "1.6.20~ds1"},
            {"Name": "runc", "Version": "1.1.5+ds1"},
        ],
    }
    assert docker_versions(json.dumps(docker)) == {
        "docker": "20.10.24+dfsg1", "containerd": "1.6.20~ds1", "runc": "1.1.5+ds1",
    }  # fmt: skip
    podman = {
        "host": {"ociRuntime": {"name": "crun", "version": "crun version 1.8.1\ncommit: f8a0"}},
        "version": {"Version": "4.3.1"},
    }
    assert podman_versions(json.dumps(podman)) == {"podman": "4.3.1", "crun": "1.8.1"}
    assert apple_versions('{"version": "1.0.0"}') == {"container": "1.0.0"}
