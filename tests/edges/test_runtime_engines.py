"""What docker and podman were really told, asked of them, and what happens when they cannot."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pynchy.container.engines.choice import open_runtime
from pynchy.container.engines.runtime import Installation, NoRuntime, SpawnFailed
from pynchy.container.spec import Mount
from tests.edges.runtimes import Lab, everything, line, open_lab

pytestmark = pytest.mark.runtime("podman", "docker")


@pytest.fixture
async def lab(runtime_name: str, tmp_path: Path, agent_image: str) -> AsyncIterator[Lab]:
    async with open_lab(runtime_name, tmp_path / "home", image=agent_image) as lab:
        yield lab


def engine(lab: Lab, *words: str) -> str:
    done = subprocess.run(
        [lab.runtime.name, *words], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


async def test_inspect_shows_every_flag(lab: Lab) -> None:
    # threat X7, X9, X10, K1, K6
    read_only = lab.home / "ro"
    read_only.mkdir()
    spec = lab.python(
        "print('up', flush=True); input()", mounts=(Mount(read_only, "/workspace/extra/ro"),)
    )
    async with lab.open(spec) as container:
        await line(container)
        (found,) = json.loads(engine(lab, "inspect", spec.name))
    host: dict[str, Any] = found["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["Privileged"] is False
    assert host["ReadonlyRootfs"] is True
    assert host["AutoRemove"] is True
    if not os.environ.get("PYNCHY_TEST_ROOTLESS"):  # which has no groups to hold them with
        assert host["Memory"] == host["MemorySwap"] == 2 << 30
        assert host["NanoCpus"] == 1_500_000_000 or host["CpuQuota"] / host["CpuPeriod"] == 1.5
        assert host["PidsLimit"] == 512
    assert host["IpcMode"] == ("none" if lab.runtime.name == "docker" else "shareable")  # its own
    assert host["PidMode"] in ("", "private")
    assert host["LogConfig"]["Type"] in ("none", "")
    if lab.runtime.name == "docker":
        assert host["CapDrop"] == ["ALL"]
    else:
        assert found["EffectiveCaps"] in (None, [])
        assert found["BoundingCaps"] in (None, [])
    assert not host["CapAdd"]
    assert not host["Devices"]
    assert not host.get("PortBindings")
    security = host["SecurityOpt"]
    assert any("no-new-privileges" in option for option in security)
    assert not any("unconfined" in option for option in security)
    limits = {
        u["Name"].lower().removeprefix("rlimit_"): (u["Soft"], u["Hard"]) for u in host["Ulimits"]
    }
    assert limits["nofile"] == (4096, 4096)
    assert limits["core"] == (0, 0)
    assert limits["fsize"] == (1 << 30, 1 << 30)
    assert found["Config"]["User"] == "{}:{}".format(*lab.runtime.owner)
    assert found["Config"]["Hostname"] == "agent"
    labels = found["Config"]["Labels"]
    assert labels["pynchy.install"] == lab.install
    assert labels["pynchy.run"] == spec.run
    mounts = {m["Destination"]: m["RW"] for m in found["Mounts"] if m["Type"] == "bind"}
    ours = {"/etc/passwd": False, "/etc/group": False, "/run/pynchy": False}
    assert mounts == {"/workspace/group": True, "/workspace/extra/ro": False, **ours}
    assert not [m for m in found["Mounts"] if "sock" in m["Source"]]
    names = {item.partition("=")[0] for item in found["Config"]["Env"]}
    assert not names & set(os.environ) - {"HOME", "PATH", "LANG", "TERM", "PYTHONUNBUFFERED",
        "PYTHONDONTWRITEBYTECODE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}  # fmt: skip


async def test_a_name_that_is_taken_is_made_free(lab: Lab, agent_image: str) -> None:
    # invariant 82
    spec = lab.python("print('ours')")
    argv = ["create", "--name", spec.name, "--network", "none", agent_image, "true"]
    engine(lab, *argv)
    async with lab.open(spec) as container:
        assert await everything(container) == b"ours\n"
    assert await lab.runtime.list() == []


@pytest.mark.parametrize(
    ("image", "mend"),
    [("localhost/pynchy-gone:1", "just image {}"), ("localhost/no-such:1", "{} has to pull")],
)
async def test_a_missing_image_says_what_to_do(
    runtime_name: str, tmp_path: Path, image: str, mend: str
) -> None:
    # threat D10, invariant 48, 95
    async with open_lab(runtime_name, tmp_path / "home", image=image) as lab:
        with pytest.raises(SpawnFailed, match=f"no image {image}.*{mend.format(runtime_name)}"):
            async with lab.open(lab.python("input()")):
                raise AssertionError
        assert await lab.runtime.list() == []


async def test_a_container_of_another_install_is_not_ours(
    lab: Lab, runtime_name: str, tmp_path: Path, agent_image: str
) -> None:
    # invariant 34, threat X11
    async with (
        lab.open(lab.python("print('up', flush=True); input()")) as container,
        open_lab(runtime_name, tmp_path / "other", image=agent_image) as other,
    ):
        await line(container)
        assert await other.runtime.list() == []
        assert await lab.runtime.list() == [container.name]


async def test_a_limit_that_an_engine_drops_is_told(
    runtime_name: str, tmp_path: Path, agent_image: str
) -> None:
    """As rootless podman does without control groups: the flags are taken, and nothing comes of them."""
    real = shutil.which(runtime_name)
    client = tmp_path / "bin" / runtime_name
    client.parent.mkdir()
    client.write_text(
        "#!/bin/bash\nfor word; do case $word in"
        ' --memory*=* | --pids-limit=* | --cpus=*) ;; *) words+=("$word") ;; esac; done\n'
        f'exec {real} "${{words[@]}}"\n'
    )
    client.chmod(0o755)
    dropping = os.environ | {"PATH": f"{client.parent}:{os.environ['PATH']}"}
    async with (
        open_lab(runtime_name, tmp_path / "home", image=agent_image, environ=dropping) as loose,
        open_lab(runtime_name, tmp_path / "other", image=agent_image) as lab,
    ):
        held, whole = await loose.runtime.limits_held(), await lab.runtime.limits_held()
        assert await lab.runtime.list() == await loose.runtime.list() == []
    loosened = {name for name, by in held.items() if not by} - {"swap"}
    if os.environ.get("PYNCHY_TEST_ROOTLESS"):  # there rlimits stand in for two of them
        assert loosened == {"cpus"}
        assert whole["memory"] == "rlimit, each process"
    else:
        assert loosened == {"memory", "cpus", "pids"}
        assert {whole["memory"], whole["cpus"], whole["pids"]} == {"cgroup"}


async def test_which_limits_hold_cannot_be_seen_without_an_image(
    runtime_name: str, tmp_path: Path
) -> None:
    async with open_lab(runtime_name, tmp_path / "home", image="localhost/no-such:1") as lab:
        with pytest.raises(SpawnFailed, match="no image"):
            await lab.runtime.limits_held()


async def test_how_images_are_kept_is_told(lab: Lab) -> None:
    assert (await lab.runtime.storage_driver()).startswith("overlay")


async def test_versions_are_told(lab: Lab) -> None:
    # threat X8
    versions = await lab.runtime.versions()
    assert versions[lab.runtime.name][0].isdigit()
    assert versions.get("runc", versions.get("crun", ""))[:1].isdigit()


@pytest.mark.runtime("docker")
async def test_who_may_not_use_docker_is_told_so(
    lab: Lab, tmp_path: Path, agent_image: str
) -> None:
    """The real client, as a user who is not in the group that the socket belongs to."""
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    as_nobody = "setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/"
    client.write_text(f'#!/bin/sh\nexec {as_nobody} {shutil.which("docker")} "$@"\n')
    client.chmod(0o755)
    environ = os.environ | {"PATH": f"{client.parent}:{os.environ['PATH']}"}
    with pytest.raises(NoRuntime, match=r"permission denied[\s\S]*usermod -aG docker") as refused:
        await open_runtime("docker", Installation("00", agent_image, tmp_path, environ))
    assert not refused.value.heals
    assert "bubblewrap" not in str(refused.value)


@pytest.mark.runtime("docker")
async def test_an_engine_that_is_down_is_no_runtime_and_later_a_failed_spawn(
    lab: Lab, tmp_path: Path, agent_image: str
) -> None:
    # threat D10, invariant 109
    environ = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}
    environ.pop("DOCKER_CONTEXT", None)
    with pytest.raises(NoRuntime, match=r"(?s)docker: .*connect.*systemctl start docker") as down:
        await open_runtime("docker", Installation("00", agent_image, tmp_path, environ))
    assert down.value.heals
    proxy = tmp_path / "engine.sock"
    proxy.symlink_to(os.environ["DOCKER_HOST"].removeprefix("unix://"))
    environ["DOCKER_HOST"] = f"unix://{proxy}"
    runtime = await open_runtime(
        "docker", Installation(lab.install, agent_image, tmp_path, environ)
    )
    proxy.unlink()
    with pytest.raises(SpawnFailed, match="does not answer"):
        async with runtime.open(lab.python("input()"), grace=1):
            raise AssertionError
