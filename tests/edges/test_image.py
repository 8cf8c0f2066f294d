"""The agent image: when it is built, and what is in it."""

import os
import subprocess
from pathlib import Path

import pytest

FAKE_ENGINE = """#!/bin/sh
# An engine that keeps one image: its label. Everything it was asked is written down.
echo "$*" >>"{log}"
case "$1 $2" in
"image inspect") cat "{image}" 2>/dev/null ;;
"build "*)
    for argument; do case $argument in pynchy.inputs=*) echo "$argument" >"{image}" ;; esac; done
    for context; do :; done
    cp -R "$context" "{context}" ;;
esac
"""


class Workshop:
    """A copy of what the build script reads, and an engine that only writes down."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.top = folder / "checkout"
        for part in ("containerfiles", "requirements", "agent"):
            subprocess.run(["mkdir", "-p", str(self.top)], check=True)
            subprocess.run(["cp", "-R", str(checkout / part), str(self.top)], check=True)
        self.log, self.context = folder / "log", folder / "context"
        programs = folder / "bin"
        programs.mkdir()
        engine = programs / "podman"
        engine.write_text(
            FAKE_ENGINE.format(log=self.log, image=folder / "image", context=self.context)
        )
        engine.chmod(0o755)
        # uv brings 400 MB; here only the fact that it was asked matters.
        uv = programs / "uv"
        uv.write_text('#!/bin/sh\nwhile [ "$1" != --target ]; do shift; done\nmkdir -p "$2"\n')
        uv.chmod(0o755)
        self.env = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder)}

    def build(self, engine: str = "podman", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.top / "containerfiles" / "build.sh"), engine],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def builds(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith("build")]


@pytest.fixture
def workshop(tmp_path: Path, checkout: Path) -> Workshop:
    return Workshop(tmp_path, checkout)


def test_the_image_is_built_once(workshop: Workshop) -> None:
    assert workshop.build().returncode == 0
    again = workshop.build()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert len(workshop.builds()) == 1


def test_whether_it_is_up_to_date_can_be_asked(workshop: Workshop) -> None:
    def check() -> int:
        argv = [str(workshop.top / "containerfiles" / "build.sh"), "--check", "podman"]
        return subprocess.run(argv, env=workshop.env, timeout=60).returncode

    assert check() == 1
    assert not workshop.builds()
    workshop.build()
    assert check() == 0
    with (workshop.top / "agent/pynchy_agent/wire.py").open("a") as file:
        file.write("\n# changed\n")
    assert check() == 1
    assert len(workshop.builds()) == 1


@pytest.mark.parametrize(
    "changed",
    ["agent/pynchy_agent/wire.py", "requirements/agent.lock", "agent/pynchy_agent/new.py"],
)
def test_a_change_of_what_goes_into_it_builds_it_anew(workshop: Workshop, changed: str) -> None:
    workshop.build()
    with (workshop.top / changed).open("a") as file:
        file.write("\n# changed\n")
    assert workshop.build().returncode == 0
    assert len(workshop.builds()) == 2


def test_another_base_builds_it_anew(workshop: Workshop) -> None:
    workshop.build()
    workshop.build(IMAGE_BASE="localhost/other:latest")
    first, second = workshop.builds()
    assert "BASE=docker.io/library/python:" in first
    assert "BASE=localhost/other:latest" in second
    assert "--network none" in second, "where the base has everything, nothing is fetched"


def test_the_context_holds_the_guest_and_nothing_of_the_host(workshop: Workshop) -> None:
    workshop.build()
    inside = {str(path.relative_to(workshop.context)) for path in workshop.context.glob("**/*")}
    assert {path for path in inside if "/" not in path} == {"Containerfile", "site"}
    assert "site/pynchy_agent/wire.py" in inside
    assert all(path.startswith("site/pynchy_agent") for path in inside if "/" in path)
    assert not (workshop.top / "build" / "image-podman").exists(), "the context is cleaned up"


def test_an_engine_that_does_not_answer_is_said(workshop: Workshop) -> None:
    (workshop.top.parent / "bin" / "podman").write_text("#!/bin/sh\nexit 1\n")
    done = workshop.build()
    assert (done.returncode, done.stderr) == (69, "podman does not answer\n")


def test_a_name_that_is_no_engine_is_refused(workshop: Workshop) -> None:
    done = workshop.build("bwrap")
    assert done.returncode == 2
    assert "known: docker, podman, container" in done.stderr


@pytest.mark.runtime("podman", "docker")
def test_the_image_has_what_an_agent_needs(runtime_name: str, agent_image: str) -> None:
    inspected = subprocess.run(
        [runtime_name, "image", "inspect", agent_image], capture_output=True, timeout=60
    )
    if inspected.returncode != 0 and not os.environ.get("PYNCHY_TEST_RUNTIMES"):
        pytest.skip("no agent image here: just image")
    script = (
        "set -e; id -u; id -g; pwd; python3 -c 'import pynchy_agent, claude_agent_sdk, mcp, trio'; "
        "for p in bash git rg curl ps; do command -v $p >/dev/null; done; "
        "! touch /opt/pynchy/x 2>/dev/null; echo ok"
    )
    done = subprocess.run(
        [
            *(runtime_name, "run", "--rm", "--init", "--pull", "never", "--network", "none"),
            *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", agent_image, "bash", "-c", script),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1000", "1000", "/workspace/group", "ok"]
