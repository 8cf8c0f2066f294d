"""Put a voice note into words, in a sandbox of its own without network: no sound is decoded on this machine.

Whatever happens, an answer is a text for the chat's agent: the words, or why there are none. The note itself stays
where it is.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.config.settings import Config
from pynchy.container.engines.runtime import (
    ContainerGone,
    ContainerStays,
    Runtime,
    SpawnFailed,
)
from pynchy.container.spec import AGENT_COMMAND, Limits, Mount, Spec
from pynchy.limits import VOICE
from pynchy.logs import logger
from pynchy.text.triggers import SPOKEN
from pynchy.voice.models import memory_for
from pynchy.voice.parts import missing, parts_of

PACKAGES: Final = "/opt/voice/packages"
MODEL: Final = "/opt/voice/model.bin"
OWN: Final = "/opt/voice/own"
NOTE: Final = "/tmp/note.ogg"  # noqa: S108 - in the sandbox
INSIDE: Final = Path(__file__).with_name("inside.py")
OFF: Final = (
    "[voice note: not transcribed; the owner can switch that on with: pynchy voice install]"
)
SILENT: Final = "[voice note: no words could be made out]"

_OF_WHISPER: Final = {
    3: "it is no sound file that can be read",
    4: "the model cannot be used; pynchy voice try says why",
    5: "the packages cannot be used; pynchy voice try says why",
    137: "it needed too much memory, or was killed",
}
_OF_A_COMMAND: Final = {
    126: "the command of whatsapp.transcribe cannot be run in the sandbox",
    127: "the command of whatsapp.transcribe is not in the sandbox",
    137: "it needed too much memory, or was killed",
}


LONGEST: Final = 4 * VOICE.words  # bytes

#: What a sandbox runs, what it sees, and how much memory it may have.
Sandboxed = tuple[tuple[str, ...], tuple[Mount, ...], int]


class NotTranscribed(Exception):
    """Why there are no words, for the agent to read. ``beside``: what a program said of it, for the log."""

    def __init__(self, reason: str, beside: str = "") -> None:
        super().__init__(reason)
        self.beside = beside


@attrs.frozen
class _Said:
    """How a sandbox ended, and what it printed."""

    code: int
    out: bytes
    beside: str


@attrs.frozen(eq=False)
class Transcriber:
    """Puts voice notes into words as the settings say, a few at once."""

    config: Config
    runtime: Runtime
    install: str
    seconds: float = VOICE.time
    _turns: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, VOICE.at_once))

    async def text(self, note: Path) -> str:
        """The text of a voice note, as its chat's agent reads it. Never fails."""
        if not self.config.voice.enabled and not self.config.whatsapp.transcribe:
            return OFF
        try:
            words = await self.words(note)
        except Exception as error:  # contained here, and only here: one note's trouble
            why = "the log of Pynchy says why"
            if isinstance(error, NotTranscribed):
                why = str(error)
                logger.debug("what should transcribe a voice note said: {}", error.beside)
            logger.opt(exception=why != str(error)).warning("a voice note: {}", error)
            return f"[voice note: could not be transcribed ({why})]"
        return f"{SPOKEN} {words}" if words else SILENT

    async def words(self, note: Path) -> str:
        """What it says; empty for nothing. Raises `NotTranscribed`."""
        try:
            content = await trio.Path(note).read_bytes()
        except OSError as error:
            raise NotTranscribed(f"{note.name}: {error.strerror}") from None
        spec = await trio.to_thread.run_sync(self._spec, len(content))
        said, why = None, f"it took longer than {self.seconds:.0f} s"
        try:
            async with self._turns:
                with trio.move_on_after(self.seconds):
                    said = await self._listen(spec, content)
        except* (SpawnFailed, ContainerStays) as errors:
            why = f"there is no sandbox: {errors.exceptions[0]}"
        if said is None:
            raise NotTranscribed(why)
        if len(said.out) > LONGEST:
            raise NotTranscribed("its words have no end")
        if said.code:
            raise NotTranscribed(self._reason(said.code), said.beside)
        return said.out.decode("utf-8", "replace").strip()[: VOICE.words]

    async def _listen(self, spec: Spec, note: bytes) -> _Said:
        async with self.runtime.open(spec, grace=1) as container:
            out = bytearray()
            with suppress(ContainerGone):  # its exit code says why
                await container.send(note)
            while (chunk := await container.receive()) and len(out) <= LONGEST:
                out += chunk
            if len(out) > LONGEST:
                container.kill()
            code = await container.wait()
            return _Said(code, bytes(out), container.stderr_tail().decode("utf-8", "replace"))

    def _reason(self, code: int) -> str:
        reasons = _OF_A_COMMAND if self.config.whatsapp.transcribe else _OF_WHISPER
        return reasons.get(code, f"its program ended with {code}")

    def _spec(self, size: int) -> Spec:
        """The sandbox for a note of that size. It is given the note on stdin, which stays open after it."""
        box, own = self.config.container, self.config.whatsapp.transcribe
        command, mounts, memory = self._own_program(size) if own else self._whisper(size)
        run = secrets.token_hex(8)
        room = (64 << 20) + 2 * size
        return Spec(
            name=f"pynchy-{self.install}-{run}",
            run=run,
            install=self.install,
            image=box.image,
            mounts=mounts,
            command=command,
            env={"OPENBLAS_NUM_THREADS": "1"},
            limits=Limits(memory, box.cpus, pids=128, nofile=256, fsize_bytes=room, tmp_bytes=room),
        )

    def _own_program(self, size: int) -> Sandboxed:
        folder = self.config.voice.folder
        mounts = () if folder is None else (Mount(folder.resolve(), OWN),)
        script = f'head -c {size} >{NOTE} && exec "$@" {NOTE}'
        command = ("sh", "-c", script, "sh", *self.config.whatsapp.transcribe)
        return command, mounts, self.config.container.memory

    def _whisper(self, size: int) -> Sandboxed:
        config, voice = self.config, self.config.voice
        parts = parts_of(config.home, voice, engine=self.runtime.name)
        if lacking := missing(parts, voice):
            raise NotTranscribed(f"{lacking}; the owner can change that: pynchy voice install")
        options = {
            "size": size,
            "packages": PACKAGES,
            "model": MODEL,
            "language": voice.language,
            "prompt": f"{config.assistant.name}.",
            "threads": max(1, round(config.container.cpus)),
            "seconds": int(VOICE.length),
        }
        program = INSIDE.read_text(encoding="utf-8")
        command = (AGENT_COMMAND[0], "-I", "-S", "-c", program, json.dumps(options))
        mounts = (Mount(parts.packages.resolve(), PACKAGES), Mount(parts.model.resolve(), MODEL))
        return command, mounts, memory_for(parts.model.stat().st_size)
