"""Start the CLI that the SDK bundles.

The SDK could start it, but only after it has been imported, which takes twice as long as the CLI needs to come up. So
the CLI is started first, before there is a trio to start it, and the SDK is imported meanwhile. For the same options,
argv and environment are those of the SDK's own transport; a test compares the two.

Nothing heavy may be imported here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from socket import socket
from typing import Final

from pynchy_agent import wire
from pynchy_agent.instructions import PROGRAMS, instructions
from pynchy_agent.places import Places

#: Where an agent's own Python and its packages are, in every engine; `SHELL` names it, too.
TOOLBOX: Final = "/opt/toolbox"

#: Lets older releases of node use the proxy.
NODE_PROXY: Final = Path(__file__).with_name("node_proxy.cjs")

SDK_VERSION: Final = "0.2.187"
SERVER_NAME: Final = "pynchy"

#: Our tools as the CLI is told of them: the model sees them at once, except for those that say of themselves that it
#: must look for them first.
SERVER: Final = {"type": "sdk", "name": SERVER_NAME, "alwaysLoad": True}

#: The built-in tools that every run is offered; each of them works in every sandbox. Left out is what competes with
#: ours or reaches for what is not there: timers that die with the process, messages between agents, worktrees.
BUILT_IN: Final = (
    "Agent",
    "Bash",
    "Edit",
    "Glob",
    "Grep",
    "NotebookEdit",
    "Read",
    "Skill",
    "TaskStop",
    "TodoWrite",
    "ToolSearch",
    "Write",
)
#: And those that a run is offered where it has that part of the web.
WEB_TOOLS: Final[Mapping[str, str]] = {"fetch": "WebFetch", "search": "WebSearch"}

#: What the CLI leaves out of a developer's tool: skills of its own, its name in commits and pull requests, and a
#: question to claude.ai before each page that it fetches; here the gateway decides that.
SETTINGS: Final = {
    "disableBundledSkills": True,
    "skillOverrides": {"plugin-authoring": "off"},  # which the line above leaves
    "includeCoAuthoredBy": False,
    "attribution": {"commit": "", "pr": ""},
    "skipWebFetchPreflight": True,
}

#: What the CLI puts before each command of the agent's shell: where its programs are, and where what it installs is
#: kept. It lies where no agent can write, and leaves the CLI's own environment and our Python as they are.
SHELL: Final = Path(__file__).with_name("shell.sh")

#: Of our own environment: whether we run in another agent's session, and where our modules are.
_NOT_THEIRS: Final = frozenset({"CLAUDECODE", "PYTHONPATH"})

#: What a Bash call may take, in seconds, when it names no timeout, and the most that it may name.
BASH_TIMEOUT: Final = 120.0
BASH_TIMEOUT_MOST: Final = 600.0


#: What one call of the model may answer, where the model may answer more. The CLI asks a model that reaches it to go
#: on, three times; so this bounds what one prompt can cost, at far more than a chat can show.
MAX_OUTPUT_TOKENS: Final = 32_000


#: Tokens that the CLI keeps free: it shortens a conversation so many before the window that it is told of.
CLI_RESERVE: Final = 33_000


def find_cli() -> Path:
    """The CLI in the SDK's package, found without importing it."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package claude_agent_sdk is not installed")
    return Path(spec.origin).parent / "_bundled" / "claude"


def start_cli(
    start: wire.Start, base_url: str, places: Places, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the CLI for this run; it waits on its stdin. Raises `OSError` when it cannot be started."""
    theirs = environment(start, base_url, places, environ)
    prompt = memory_file("system-prompt", system_prompt(start, places, theirs).encode())
    try:
        return subprocess.Popen(
            argv(start, find_cli(), prompt=f"/proc/self/fd/{prompt}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=places.group,
            env=theirs,
            bufsize=0,
            pass_fds=(prompt,),
        )
    finally:
        os.close(prompt)


def memory_file(name: str, content: bytes) -> int:
    """A file in memory alone, for a program to read. Memories and scripts that people write may be longer than the
    128 KiB that the kernel takes as an argument."""
    fd = os.memfd_create(name)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
    except BaseException:
        os.close(fd)
        raise
    return fd


def argv(start: wire.Start, cli: Path, *, prompt: str) -> list[str]:
    """The command line; ``prompt`` is the file of the system prompt. What an agent can write never configures it: only
    the user's settings are read, which are mounted read-only, and no tool server but ours is started."""
    words = [str(cli), "--output-format", "stream-json", "--verbose"]
    words += ["--system-prompt-file", prompt]
    words += ["--tools", ",".join(built_in(start))]
    if start.model:
        words += ["--model", start.model]
    words += ["--permission-mode", "bypassPermissions"]  # the sandbox is the permission system
    if start.session:
        words += [f"--resume={start.session}"]
    words += ["--settings", json.dumps(SETTINGS)]
    words += ["--mcp-config", json.dumps({"mcpServers": {SERVER_NAME: SERVER}})]
    words += ["--include-partial-messages", "--strict-mcp-config", "--setting-sources=user"]
    return [*words, "--input-format", "stream-json"]


def built_in(start: wire.Start) -> list[str]:
    """The CLI's own tools that this run is offered."""
    return [*BUILT_IN, *(tool for part, tool in WEB_TOOLS.items() if part in start.web)]


def environment(
    start: wire.Start, base_url: str, places: Places, environ: Mapping[str, str]
) -> dict[str, str]:
    """The CLI's environment. The token is for this run alone and opens nothing but its gateway."""
    return {
        # Before ours, so that a container's image or a test can set them.
        "CLAUDE_CODE_MAX_RETRIES": "2",  # a short trouble; a longer one is the host's to wait for
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(MAX_OUTPUT_TOKENS),
        **_paid(start),
        **programs_environment(environ),
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_AUTH_TOKEN": start.token,
        **way_out(start, base_url, environ),
        "CLAUDE_ENV_FILE": str(SHELL),
        "CLAUDE_CONFIG_DIR": str(places.config),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_CRON": "1",
        "CLAUDE_CODE_ENABLE_TASKS": "0",  # else TodoWrite is four tools of four times the size
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # which names the CLI's version in each prompt
        "CLAUDE_CODE_FORK_SUBAGENT": "0",  # which would read the whole conversation once more
        "CLAUDE_AGENT_SDK_DISABLE_BUILTIN_AGENTS": "1",  # ours is named at connecting
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # memory is CLAUDE.md and our tools
        "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
        "CLAUDE_ENABLE_BYTE_WATCHDOG": "1",
        "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "90000",
        "BASH_DEFAULT_TIMEOUT_MS": str(int(BASH_TIMEOUT * 1000)),
        "BASH_MAX_TIMEOUT_MS": str(int(BASH_TIMEOUT_MOST * 1000)),
        "IS_SANDBOX": "1",  # a sandbox may map the agent's user to root; the CLI refuses that anywhere else
        "TZ": start.timezone,
        # As the SDK's own transport sets them.
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_AGENT_SDK_VERSION": SDK_VERSION,
        "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
        "PWD": str(places.group),
    }


def way_out(start: wire.Start, base_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What tells a program of the agent's where its way to the network is."""
    proxy = base_url
    if start.gateway.startswith("http://"):  # no socket of its own says whose connection it is
        proxy = base_url.replace("http://", f"http://run:{start.token}@", 1)
    options = filter(None, [environ.get("NODE_OPTIONS"), f'--require="{NODE_PROXY}"'])
    return {
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost,::1,0.0.0.0"),
        "NODE_USE_ENV_PROXY": "1",  # or node's own fetch looks for no proxy; before node 22.21 only by our module
        "NODE_OPTIONS": " ".join(options),
    }


def base_url_of(start: wire.Start, listener: socket | None) -> str:
    """Where the gateway is reached: by the relay's port, unless the host named an address."""
    return start.gateway if listener is None else f"http://127.0.0.1:{listener.getsockname()[1]}"


def _paid(start: wire.Start) -> dict[str, str]:
    """What decides what a message costs: how long a conversation may be, and how long it stays cached."""
    window = {"CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(start.compact_at + CLI_RESERVE)}
    hour = {"ENABLE_PROMPT_CACHING_1H": "1"}
    return (window if start.compact_at else {}) | (hour if start.cache_hour else {})


def programs_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that is not ours. If there is another Python, nothing in it leads to ours."""
    theirs = {name: value for name, value in environ.items() if name not in _NOT_THEIRS}
    ours = f"{sys.prefix}/bin"
    rest = os.pathsep.join(p for p in environ.get("PATH", "").split(os.pathsep) if p != ours)
    if shutil.which("python3", path=f"{TOOLBOX}/bin{os.pathsep}{rest}"):
        theirs["PATH"] = rest
    return theirs


def system_prompt(start: wire.Start, places: Places, environ: Mapping[str, str]) -> str:
    """The system prompt, with the programs that an agent's shell finds, and both memories as they are now."""
    path = os.pathsep.join((f"{TOOLBOX}/bin", environ.get("PATH", "")))
    return instructions(
        start.about,
        programs=[name for name in PROGRAMS if shutil.which(name, path=path)],
        shared_memory=_memory(places.shared),
        own_memory=_memory(places.group),
    )


def _memory(folder: Path) -> str | None:
    """The folder's CLAUDE.md, if it is there and is a file: an agent may have put anything in its place."""
    path = folder / "CLAUDE.md"
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace").replace("\0", "").strip()
    except OSError:
        return None
