"""The image with a browser: when it is built, of what, and that its one way to a page is the gateway."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from pynchy.container.spec import AGENT_COMMAND
from pynchy.policy.allowance import Egress
from tests.edges.gateway_world import WHO, served
from tests.edges.runtimes import everything, open_lab
from tests.edges.test_image import Workshop

IMAGE = "localhost/pynchy-agent-browser:latest"
PAGE = b"<title>A page</title><p id=said></p><script>said.textContent = 6 * 7 + ' it is'</script>"


@pytest.fixture
def workshop(tmp_path: Path, checkout: Path) -> Workshop:
    made = Workshop(tmp_path, checkout)
    assert made.build().returncode == 0
    engine = made.top.parent / "bin" / "podman"
    shebang, rest = engine.read_text().split("\n", 1)
    # The agent image keeps its id, whatever is built on it.
    engine.write_text(f'{shebang}\ncase "$*" in *--format*) echo its-id; exit ;; esac\n{rest}')
    return made


def package(workshop: Workshop, *, locked: bool) -> Path:
    """A package of agent-browser as npm has it, with one line for a program."""
    path = workshop.top / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for machine in ("x64", "arm64"):
            member = tarfile.TarInfo(f"package/bin/agent-browser-linux-{machine}")
            member.size = 5
            tar.addfile(member, io.BytesIO(b"hello"))
    if locked:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lock = workshop.top / "containerfiles" / "agent-browser" / "agent-browser.lock"
        lock.write_text(f"# a comment\nagent-browser 9.9.9 {digest}\n")
    return path


def build(
    workshop: Workshop, engine: str = "podman", **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(workshop.top / "containerfiles" / "browser.sh"), engine],
        env=workshop.env | env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_is_the_agents_image_with_what_was_fetched_and_checked(workshop: Workshop) -> None:
    subprocess.run(["rm", "-r", str(workshop.context)], check=True)
    done = build(workshop, AGENT_BROWSER=str(package(workshop, locked=True)))
    assert done.returncode == 0, done.stderr
    _, made = workshop.builds()
    assert f"--tag {IMAGE}" in made
    assert "BASE=localhost/pynchy-agent:latest" in made
    assert {each.name for each in workshop.context.iterdir()} == {"Containerfile", "agent-browser"}
    assert (workshop.context / "agent-browser").read_bytes() == b"hello"
    again = build(workshop, AGENT_BROWSER="/nowhere")  # nothing is fetched for what is there
    assert (again.returncode, again.stderr) == (0, "")


def test_what_is_not_locked_is_not_built(workshop: Workshop) -> None:
    done = build(workshop, AGENT_BROWSER=str(package(workshop, locked=False)))
    assert done.returncode == 1
    assert "is not what is locked" in done.stderr
    assert len(workshop.builds()) == 1


def test_an_engine_that_is_not_there_is_said(workshop: Workshop) -> None:
    assert build(workshop, "container").returncode == 0
    assert build(workshop, "bwrap").returncode == 2
    (workshop.top.parent / "bin" / "podman").write_text("#!/bin/sh\nexit 1\n")
    assert build(workshop).returncode == 69


@attrs.frozen
class OnePage:
    """An outside with one site, which is really a server of the test's own."""

    port: int
    asked: list[str]

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return ["203.0.114.7"] if host == "page.example" else []

    async def dial(self, address: str, port: int) -> trio.abc.HalfCloseableStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


async def site(stream: trio.SocketStream, *, hellos: list[bytes]) -> None:
    seen = b""
    while b"\r\n\r\n" not in seen:
        if seen.startswith(b"\x16"):  # that TLS came through is all there is to see
            hellos.append(seen)
            return
        if not (data := await stream.receive_some()):
            return
        seen += data
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(PAGE)}\r\nconnection: close\r\n\r\n"
    await stream.send_all(head.encode() + PAGE)
    await stream.aclose()


#: What an agent would do: the relay is its way out, and it finds it in its environment.
LOOKS = """
import json, os, socket, subprocess, trio
from functools import partial
from pynchy_agent import relay

def run(*words):
    done = subprocess.run(["agent-browser", *words], capture_output=True, text=True, timeout=100)
    return done.stdout.strip() or done.stderr.strip()

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    os.environ |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1,localhost"}
    said = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run, "/run/pynchy/gateway.sock", listener, relay.Refusals())
        for name, words in [("open", ["open", "http://page.example/"]), ("text", ["get", "text", "#said"]),
                            ("away", ["open", "http://other.example/"]), ("refused", ["get", "text", "body"]),
                            ("tls", ["open", "https://page.example/"]), ("close", ["close"])]:
            said[name] = await trio.to_thread.run_sync(partial(run, *words))
        nursery.cancel_scope.cancel()
    print(json.dumps(said))

trio.run(main)
"""


@pytest.mark.limit(400)
@pytest.mark.runtime("podman", "docker")
async def test_a_page_is_opened_through_the_gateway(runtime_name: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [runtime_name, "image", "inspect", IMAGE], capture_output=True, timeout=60
    )
    if found.returncode != 0:
        pytest.skip("no image with a browser here: .ci/images browser builds it")
    asked: list[str] = []
    hellos: list[bytes] = []
    with trio.fail_after(300):
        async with (
            open_lab(runtime_name, tmp_path, image=IMAGE) as lab,
            trio.open_nursery() as nursery,
        ):
            listeners = await nursery.start(trio.serve_tcp, partial(site, hellos=hellos), 0)
            port = listeners[0].socket.getsockname()[1]
            who = attrs.evolve(WHO, egress=Egress(kind="allowlist", patterns=("page.example",)))
            async with (
                served(lab.gateway, who=who, network=OnePage(port, asked)),
                lab.open(lab.spec(AGENT_COMMAND[0], "-I", "-c", LOOKS)) as container,
            ):
                os.chown(lab.gateway / "gateway.sock", *lab.runtime.owner)
                heard = await everything(container)
                assert await container.wait() == 0, container.stderr_tail().decode()
                said = json.loads(heard)
            nursery.cancel_scope.cancel()
    assert said["text"] == "42 it is", said
    assert "other.example is not on this group's list" in said["refused"], said
    assert set(asked) == {"page.example"}, "what is not allowed is not even looked up"
    assert hellos, "its TLS names the host where the gateway can read it, and so comes through"
