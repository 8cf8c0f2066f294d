"""The agent image: when it is built, and what is in it."""

import os
import subprocess
from pathlib import Path

import pytest

FAKE_ENGINE = """#!/bin/sh
# An engine that keeps one image: its labels. Everything it was asked is written down.
echo "$*" >>"{log}"
case "$1 $2" in
"image inspect") cat "{image}" 2>/dev/null ;;
"build "*)
    : >"{image}"
    for argument; do
        case $argument in
        pynchy.*=*) printf '"%s": "%s",\n' "${{argument%%=*}}" "${{argument#*=}}" >>"{image}" ;;
        esac
    done
    for context; do :; done
    cp -R "$context" "{context}" ;;
esac
"""


class Workshop:
    """A copy of what the build script reads, and an engine that only writes down."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.top = folder / "checkout"
        for part in ("containerfiles", "requirements", "agent", "pynchy/container"):
            place = self.top / part
            place.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-R", str(checkout / part), str(place)], check=True)
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

    assert check() == 3, "there is none"
    assert not workshop.builds()
    workshop.build()
    assert check() == 0
    with (workshop.top / "agent/pynchy_agent/wire.py").open("a") as file:
        file.write("\n# changed\n")
    assert check() == 1
    assert len(workshop.builds()) == 1


@pytest.mark.parametrize(
    "changed",
    [
        "agent/pynchy_agent/wire.py",
        "agent/pynchy_agent/new.py",
        "agent/pynchy_agent/shell.sh",
        "requirements/agent.lock",
        "requirements/toolbox.lock",
    ],
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
    assert "MAY_LACK=yes" in second, "and where it lacks a program, the image is built without"
    assert "MAY_LACK" not in first


def test_the_base_is_remembered_and_no_reason_to_call_an_image_old(workshop: Workshop) -> None:
    workshop.build(IMAGE_BASE="localhost/other:latest")
    argv = [str(workshop.top / "containerfiles" / "build.sh"), "--check", "podman"]
    assert subprocess.run(argv, env=workshop.env, timeout=60).returncode == 0
    with (workshop.top / "agent/pynchy_agent/wire.py").open("a") as file:
        file.write("\n# changed\n")
    assert subprocess.run(argv, env=workshop.env, timeout=60).returncode == 1
    workshop.build()
    assert "BASE=localhost/other:latest" in workshop.builds()[-1]
    workshop.build(IMAGE_BASE="default")
    assert "BASE=docker.io/library/python:" in workshop.builds()[-1]
    workshop.build()
    assert len(workshop.builds()) == 3


def test_images_that_a_build_replaced_are_removed_and_no_others(workshop: Workshop) -> None:
    workshop.build()
    (pruned,) = [text for text in workshop.log.read_text().splitlines() if "prune" in text]
    assert pruned == "image prune --force --filter label=pynchy.inputs"


def test_our_code_is_the_last_layer(checkout: Path) -> None:
    """What changes most comes last, so that a changed line of ours is a small layer."""
    steps = [
        line.split()[:2]
        for line in (checkout / "containerfiles/agent/Containerfile").read_text().splitlines()
        if line[:4] in ("RUN ", "COPY")
    ]
    copied = [number for number, step in enumerate(steps) if step == ["COPY", "agent"]]
    assert copied == [len(steps) - 2], "only its compilation comes after"


@pytest.mark.runtime("podman", "docker")
def test_an_image_that_was_replaced_is_removed_by_the_real_engine(
    runtime_name: str, tmp_path: Path
) -> None:
    name, label = f"localhost/pynchy-test-{os.getpid()}:latest", f"pynchy.test={os.getpid()}"
    file = tmp_path / "Containerfile"
    file.write_text("FROM scratch\nCOPY word /word\n")

    def build(word: str) -> str:
        (tmp_path / "word").write_text(word)
        argv = [runtime_name, "build", "--file", str(file), "--tag", name, "--label", label]
        subprocess.run(
            [*argv, "--label", "pynchy.inputs=none", str(tmp_path)], check=True, capture_output=True
        )
        return images(runtime_name, "--filter", f"reference={name}")

    def images(engine: str, *more: str) -> str:
        argv = [engine, "images", "--all", "--quiet", "--no-trunc", *more]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    try:
        old, new = build("one"), build("two")
        assert old != new
        assert old in images(runtime_name)
        prune = Path(__file__).parents[2] / "containerfiles" / "prune.sh"
        subprocess.run([str(prune), runtime_name], check=True, timeout=60)
        assert old not in images(runtime_name)
        assert new in images(runtime_name)
    finally:
        subprocess.run([runtime_name, "rmi", "--force", name], capture_output=True)


def test_an_image_that_cannot_be_built_does_not_take_the_other_along(
    workshop: Workshop, checkout: Path
) -> None:
    just = checkout / ".tools" / "bin" / "just"
    if not just.exists():
        pytest.skip("just is not in this checkout")
    (workshop.top / "justfile").write_bytes((checkout / "justfile").read_bytes())
    browser = workshop.top / "containerfiles" / "browser.sh"
    browser.write_text("#!/bin/sh\necho 'no network' >&2; exit 1\n")
    argv = [str(just), "--justfile", str(workshop.top / "justfile"), "image", "podman"]
    done = subprocess.run(argv, env=workshop.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "no network" in done.stderr
    assert "The image with a browser was not built" in done.stderr
    assert len(workshop.builds()) == 1


def test_the_context_holds_the_guest_and_nothing_of_the_host(workshop: Workshop) -> None:
    workshop.build()
    inside = {str(path.relative_to(workshop.context)) for path in workshop.context.glob("**/*")}
    assert {path for path in inside if "/" not in path} == {
        "Containerfile",
        "site",
        "agent",
        "toolbox",
    }
    assert "agent/pynchy_agent/wire.py" in inside
    ours = {path for path in inside if "/" in path and not path.startswith("agent/pynchy_agent")}
    assert ours == {"toolbox/installed_first.py"}
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
        "set -e; id -u; id -g; pwd; "
        "/opt/pynchy/bin/python -c 'import pynchy_agent, claude_agent_sdk, mcp, trio'; "
        "! python3 -c 'import claude_agent_sdk' 2>/dev/null; "
        "for p in bash git rg curl ps; do command -v $p >/dev/null; done; "
        "/opt/toolbox/bin/python3 -c 'import pandas, docx, pptx, reportlab, matplotlib'; "
        "! /opt/toolbox/bin/python3 -c 'import pynchy_agent' 2>/dev/null; "
        "! /opt/pynchy/bin/python -c 'import pandas' 2>/dev/null; "
        "! touch /opt/toolbox/x 2>/dev/null; "
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
