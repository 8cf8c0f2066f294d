"""An agent that costs nothing, so that what is seen is WhatsApp's doing. It speaks the wire on the standard library.

It answers with the marks (``mark-17``) in what it was told, in their order, or with "heard" where there are none. Words
that it obeys: ``wait:2`` seconds; ``file:picture.png`` and ``file:letter.txt`` are sent; ``react`` to the message;
``quote`` it.
"""

import json
import os
import queue
import re
import struct
import sys
import threading
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

COMMANDS = Path("/workspace/ipc/commands")
GROUP = Path("/workspace/group")
PAUSE = 0.3  # seconds that a burst may take
SESSION = str(uuid.uuid4())

lines: "queue.Queue[dict[str, Any]]" = queue.Queue()


def read() -> None:
    for line in sys.stdin:
        lines.put(json.loads(line))
    lines.put({"type": "close"})


def frame(**what: object) -> None:
    marks = ("---PYNCHY_OUTPUT_START---", "---PYNCHY_OUTPUT_END---")
    sys.stdout.write(f"{marks[0]}\n{json.dumps(what)}\n{marks[1]}\n")
    sys.stdout.flush()


def command(kind: str, **arguments: object) -> None:
    name = f"{time.time_ns():016x}{os.urandom(8).hex()}"
    aside = COMMANDS / f".{name}"
    aside.write_text(json.dumps({"type": kind, "args": arguments}))
    aside.rename(COMMANDS / f"{name}.json")


def png() -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\x00\x80"))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def answer(prompts: list[dict[str, Any]]) -> None:
    frame(type="accepted", prompts=[each["id"] for each in prompts])
    text = "\n".join(each["text"] for each in prompts)
    for seconds in re.findall(r"\bwait:([\d.]+)", text):
        time.sleep(float(seconds))
    for name in re.findall(r"\bfile:([\w.]+)", text):
        path = GROUP / name
        path.write_bytes(png() if name.endswith(".png") else b"Dear all,\n")
        command("send_file", path=name, caption=f"here is {name}")
    if "please react" in text:
        command("react", emoji="\N{THUMBS UP SIGN}")
    marks = re.findall(r"\bmark-\d+\b", text)
    said = "answer to " + " ".join(marks) if marks else "heard"
    ids = [each["id"] for each in prompts]
    frame(type="result", text=said, answered=ids, session=SESSION)
    frame(type="idle")


def together(first: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These prompts and what follows at once: a burst is one answer, for answers go out slowly."""
    time.sleep(PAUSE)
    while lines.queue and lines.queue[0]["type"] == "prompt":
        first.append(lines.get())
    return first


threading.Thread(target=read, daemon=True).start()
while True:
    line = lines.get()
    if line["type"] == "start":
        frame(type="ready")
        if line["prompts"]:
            answer(together(line["prompts"]))
    elif line["type"] == "prompt":
        answer(together([line]))
    elif line["type"] == "close":
        break
