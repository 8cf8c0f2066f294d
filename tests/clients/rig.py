"""Where programs are tried: a gateway for each way out on an internet of its own, and a place without a network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.container.spec import CERTIFICATES, Spec, container_env
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.offline import OfflineModel
from pynchy.gateway.proxy import SOCKET, Gateway
from pynchy.logs import logger
from pynchy.model import GroupId, RunId
from pynchy.policy.allowance import Egress
from pynchy_agent import launch, relay
from pynchy_agent.places import Places
from tests.guest import START
from tests.internet import HOSTS, Internet, bring_up

#: The ways out that a group may have, by what they are called here.
MODES: Final[Mapping[str, Egress]] = {
    "public": Egress("public"),
    "listed": Egress("allowlist", tuple(HOSTS)),
    "not listed": Egress("allowlist", ("www.example.com",)),
    "none": Egress("none"),
}
PORT: Final = 8899


@attrs.frozen
class Ran:
    """How a program ended, and what it wrote."""

    code: int
    output: str


@attrs.frozen
class Rig:
    net: Internet
    folder: Path

    def run(self, mode: str, script: str, *, timeout: float = 60.0) -> Ran:
        """Run a shell script as an agent's program, in a folder of its own, whose way out is ``mode``'s."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        home = Path(os.path.realpath(work)) / f"{len(list(work.iterdir()))}"
        home.mkdir()
        words = ["unshare", "--net", "--", sys.executable, "-m", "tests.clients.rig", "inside"]
        if os.getuid() != 0:
            words[1:1] = ["--map-current-user", "--keep-caps"]
        words += [str(self.folder / mode / SOCKET), str(self.net.ca_file), str(home), script]
        try:
            done = subprocess.run(
                self.net.command(words),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return Ran(-1, f"nothing after {timeout:g} s: {late.output!r}")
        return Ran(done.returncode, done.stdout.decode(errors="replace"))


@contextmanager
def open_rig(net: Internet, folder: Path) -> Iterator[Rig]:
    """A gateway for each mode, on that internet, until the block ends."""
    folder.mkdir()
    words = [sys.executable, "-m", "tests.clients.rig", "gateways", str(folder)]
    with subprocess.Popen(
        net.command(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise AssertionError("the gateways do not come up")
            yield Rig(net, folder)
        finally:
            process.kill()


# --- in processes of their own ---------------------------------------------------------------------


async def _gateways(folder: Path) -> None:
    logger.remove()
    gateway = Gateway(upstream=OfflineModel())
    async with AsyncExitStack() as stack:
        for mode, egress in MODES.items():
            who = RunIdentity(RunId("0123456789abcdef"), GroupId("family"), "token", egress=egress)
            await stack.enter_async_context(gateway.open_run(who, folder / mode))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)


def _environment(home: Path, ca_file: Path) -> dict[str, str]:
    """What an agent's programs find, but for places that are others here."""
    spec = Spec("x", "0", "0", None, (), certificates=ca_file)
    container = {
        name: str(ca_file) if value == CERTIFICATES else value
        for name, value in container_env(spec).items()
    }
    places = Places(*[home] * len(attrs.fields(Places)))
    environ = container | {"PATH": os.environ["PATH"], "HOME": str(home)}
    return launch.environment(START, f"http://127.0.0.1:{PORT}", places, environ)


async def _inside(gateway: str, home: Path, script: str, env: Mapping[str, str]) -> int:
    listener = socket.create_server(("127.0.0.1", PORT))
    listener.setblocking(False)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(relay.run, gateway, listener, relay.Refusals()))
        done = await trio.run_process(
            ["/bin/sh", "-c", script], cwd=home, env=env, check=False, stdin=subprocess.DEVNULL
        )
        nursery.cancel_scope.cancel()
    return done.returncode


def _main(words: Sequence[str]) -> int:
    match words:
        case ["gateways", folder]:
            trio.run(_gateways, Path(folder))
            return 0
        case ["inside", gateway, ca_file, home, script]:
            bring_up({})
            env = _environment(Path(home), Path(ca_file))
            return trio.run(_inside, gateway, Path(home), script, env)
    raise SystemExit(f"not known: {json.dumps(list(words))}")


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
