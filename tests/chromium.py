"""A real browser for tests and pictures: Debian's headless Chromium, over DevTools on a pipe.

A pipe and not a port: nobody else can drive it, and it ends with us. Waiting is done in the page, by
looking again at each change, so that no time is guessed here.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

PATIENCE: Final = 90  # seconds after which something hangs, on a machine with much else to do
HANG: Final = PATIENCE + 30.0  # seconds without a word from the browser itself

_WAIT: Final = """
new Promise((done) => {
  const look = () => {
    let found = false;
    try { found = (%s); } catch (error) { found = false; }
    if (found) done(true);
    else if (performance.now() > end) done(document.body.innerText);
    else setTimeout(look, 50);
  };
  const end = performance.now() + %d;
  look();
})
"""


def program() -> str | None:
    """The browser, if this machine has it."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@attrs.define(eq=False)
class Tab:
    """One page of a browser, and what went wrong in it."""

    _browser: Browser
    _session: str
    trouble: list[str] = attrs.field(factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, params, self._session)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression comes to, promises too."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {json.dumps(answer['exceptionDetails'])[:2000]}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Return once an expression of the page is true."""
        while True:
            try:
                found = self.value(_WAIT % (condition, 1000 * PATIENCE))
            except Gone:  # a page was left meanwhile
                continue
            assert found is True, f"{condition}: not within {PATIENCE} s; seen:\n{found}"
            return

    def wait_text(self, text: str, selector: str = "body") -> None:
        """Wait for a text that can be seen."""
        words = json.dumps(text)
        where = json.dumps(selector)
        self.wait(
            f"[...document.querySelectorAll({where})].some((e) => e.innerText.includes({words}))"
        )

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element that has this text, once it is there, with the mouse."""
        where, words = json.dumps(selector), json.dumps(text)
        find = f"[...document.querySelectorAll({where})].find((e) => e.innerText.includes({words}) && !e.hidden)"
        self.wait(f"Boolean({find})")
        x, y = self.value(
            f"(() => {{ const e = {find}; e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int = 0) -> None:
        """Press one key: Tab, Enter, …"""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        more: dict[str, Any] = {"text": text} if text else {}
        number = code or codes[key]
        for kind in ("keyDown", "keyUp"):
            sent = more if kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=number,
                **sent,
            )

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def dark(self, on: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """What can be seen, as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"]
        path.write_bytes(base64.b64decode(data))


class Gone(Exception):
    """The page that was asked is not there any more."""


@attrs.define(eq=False)
class Browser:
    """A running Chromium."""

    _process: subprocess.Popen[bytes]
    _orders: int
    _answers: int
    _buffer: bytearray = attrs.field(factory=bytearray)
    _last: int = 0
    _tabs: dict[str, Tab] = attrs.field(factory=dict)

    def tab(self) -> Tab:
        """A new page, in a profile of its own: no cookie of another one."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context}
        )
        return self._attach(target["targetId"])

    def _attach(self, target: str) -> Tab:
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})[
            "sessionId"
        ]
        tab = Tab(self, session)
        self._tabs[session] = tab
        for domain in ("Page", "Runtime", "Log"):
            tab.call(f"{domain}.enable")
        return tab

    def call(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        self._last += 1
        request: dict[str, Any] = {"id": self._last, "method": method, "params": params or {}}
        if session is not None:
            request["sessionId"] = session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self._orders, data) :]
        deadline = time.monotonic() + HANG
        while True:
            message = self._hear(deadline)
            if message.get("id") == self._last:
                if "error" in message:
                    said = message["error"]["message"]
                    if "context" in said or "navigated" in said:
                        raise Gone(said)
                    raise AssertionError(f"{method}: {said}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        tab = self._tabs.get(message.get("sessionId", ""))
        if tab is None:
            return
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                tab.trouble.append(json.dumps(params["exceptionDetails"])[:2000])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                tab.trouble.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def _hear(self, deadline: float) -> dict[str, Any]:
        while (end := self._buffer.find(b"\0")) < 0:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise AssertionError(f"the browser said nothing for {HANG:g} s")
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise AssertionError(f"the browser ended: {self._process.poll()}")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser for the length of the block."""
    found = program()
    assert found is not None
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    flags = [
        "--headless=new",
        "--no-sandbox",  # it runs as root here, and sees no page but ours
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--disable-sync",
        "--no-first-run",
        "--mute-audio",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    # The pipe is descriptors 3 and 4 of the browser.
    script = f'exec "$@" 3<&{to_read} 4>&{from_write}'
    with subprocess.Popen(
        ["/bin/bash", "-c", script, "browser", found, *flags],
        pass_fds=(to_read, from_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HOME": str(profile)},
    ) as process:
        os.close(to_read)
        os.close(from_write)
        try:
            yield Browser(process, to_write, from_read)
        finally:
            os.close(to_write)
            os.close(from_read)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
