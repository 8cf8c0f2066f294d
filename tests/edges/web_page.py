"""`pynchy web` as a process of its own, and what a browser would ask of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

HANG = 90.0  # seconds


@attrs.define
class Web:
    """One `pynchy web`, and what a browser would ask of it."""

    home: Path
    process: subprocess.Popen[str]
    port: int
    links: list[str]
    cookie: str = ""

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return self.links[-1].partition("#token=")[2]

    def ask(
        self, path: str, body: Any = None, *, method: str = "", raw: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request with the headers that a browser sends, others in their place; "" leaves one out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        ours = {"Host": self.where, "Cookie": self.cookie}
        data = raw or (
            json.dumps({} if body is None else body).encode() if body is not None else b""
        )
        if body is not None or raw:
            ours |= {"Origin": f"http://{self.where}", "Content-Type": "application/json"}
        ours |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method or ("POST" if data else "GET"), path, skip_host=True)
        for name, value in ours.items():
            if value:
                connection.putheader(name, value)
        if data:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data or None)
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def enter(self) -> None:
        """Use the link, and read the next one."""
        status, headers, _ = self.ask("/login", {"token": self.token})
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]
        self.links.append(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def streams(self) -> bool:
        """Whether one more stream would be served."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        connection.request("GET", "/news", headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        connection.close()
        answer.close()
        return answer.status == 200

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of a stream, as long as somebody reads them."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("content-type") == "text/event-stream"
        try:
            yield events(answer)
        finally:
            answer.close()
            connection.close()


def events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := answer.readline():
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


@contextmanager
def served(home: Path, *argv: str, env: Mapping[str, str] = os.environ) -> Iterator[Web]:
    with subprocess.Popen(
        [sys.executable, "-m", "pynchy", "web", "--port", "0", *argv],
        env={**env, "PYNCHY_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            link = process.stdout.readline().strip()
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#token=[\w-]{43}", link)
            assert found, (link, process.stderr.read() if process.stderr else "")
            yield Web(home, process, int(found[1]), [link])
        finally:
            if process.poll() is None:
                process.kill()
