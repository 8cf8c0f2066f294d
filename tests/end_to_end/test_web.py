"""The page in a real browser, on a real daemon with real sandboxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from tests.chromium import Browser, Tab, browsing, program
from tests.edges.web_page import Web, served
from tests.end_to_end.house import Daemon, running
from tests.http_server import QuietHandler, open_http_server

pytestmark = pytest.mark.skipif(
    program() is None, reason="no Chromium here: apt-get install chromium"
)


@attrs.define
class Room:
    """A daemon, its page, and a browser that was let in."""

    daemon: Daemon
    web: Web
    browser: Browser
    tab: Tab

    def go(self, view: str) -> None:
        self.tab.value(f"location.hash = '#/{view}'")
        self.tab.wait(f"document.body.dataset.view === {json.dumps(view.partition('/')[0])}")

    def ask(self, op: str, **arguments: Any) -> Any:
        with self.daemon.talk() as talk:
            return talk.call(op, **arguments)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("page")
    with (
        running(folder / "home", "bwrap", "limits.idle=1min") as daemon,
        served(folder / "home") as web,
        browsing(folder / "profile") as browser,
    ):
        tab = browser.tab()
        tab.size(1200, 800)
        tab.open(web.links[-1])
        tab.wait_text("Slots")
        web.links.append(web.line())
        yield Room(daemon, web, browser, tab)
        assert tab.trouble == []  # no script failed, and the policy had nothing to forbid


def test_the_link_opens_the_page_once_and_is_seen_nowhere_after(room: Room) -> None:
    used = room.web.links[0]
    assert room.tab.value("location.href") == f"http://{room.web.where}/#/live"
    assert room.tab.value("document.cookie") == ""
    assert room.tab.value("Object.keys(localStorage).length") == 0
    other = room.browser.tab()
    other.open(used)
    other.wait_text("Locked")
    other.wait_text("this link was used")
    assert "token" not in other.value("location.href")
    other.click("#link")
    other.type(room.web.links[-1])
    other.click("button", "Open")
    other.wait_text("Slots")
    room.web.links.append(room.web.line())
    other.click("button", "Log out")
    other.wait_text("You have logged out")
    other.value("location.reload()")
    other.wait_text("Locked")


def test_a_chat_goes_on_and_what_is_said_is_text(room: Room) -> None:
    tab = room.tab
    room.go("chat/console:main")
    tab.click("#words")
    tab.type("echo <img src=x onerror=alert(1)>")
    tab.press("Enter")
    tab.wait_text("<img src=x onerror=alert(1)>", ".bubble.theirs")
    assert tab.value("document.querySelectorAll('.bubble.mine').length") == 1
    assert tab.value("document.querySelector('#words').value") == ""
    assert tab.value("document.activeElement.id") == "words"
    with room.daemon.talk() as talk:  # what is said elsewhere is shown here
        talk.ask("echo from a terminal")
    tab.wait_text("from a terminal", ".bubble.theirs")


def test_a_turn_is_seen_at_work_and_stopped(room: Room) -> None:
    tab = room.tab
    room.go("live")
    with room.daemon.talk() as talk:
        talk.say("bash tail -f /dev/null")
        tab.wait_text("uses Bash", ".card.busy .steps")
        tab.wait_text("working on 1", "#state")
        tab.click(".card.busy button", "Stop")
    tab.wait("document.querySelector('.card.busy') === null")
    assert [run for run in room.ask("status")["runs"] if run["turns"]] == []
    assert any(row["action"] == "turns stopped" for row in room.ask("audit"))


def test_what_waits_for_another_try_says_why_and_is_stopped(room: Room) -> None:
    tab = room.tab
    room.go("live")
    with room.daemon.talk() as talk:
        talk.say("error 401")
        talk.turn("retry")
        tab.wait_text("401", "[data-key^='retry ']")
        tab.wait_text("1 turn", ".tile")
        tab.click("[data-key^='give up ']", "Stop")
        talk.turn("cancelled")
    tab.wait("document.querySelector(\"[data-key^='retry ']\") === null")
    assert room.ask("status")["retries"] == []


def test_a_group_and_a_task_are_paused_and_resumed(room: Room) -> None:
    tab = room.tab
    room.ask("groups.add", chat="console:family", name="The family")
    room.go("live")
    card = "[...document.querySelectorAll('.card')].find((e) => e.innerText.includes('The family'))"
    tab.wait(f"Boolean({card})")
    for button, badge in (("Pause", "paused"), ("Resume", "quiet")):
        tab.click("[data-key='pause family']", button)
        tab.wait(f"{card}.querySelector('.badge').innerText === '{badge}'")
        paused = {group["folder"]: group["paused"] for group in room.ask("groups.list")}
        assert paused["family"] == (badge == "paused")

    made = room.ask("tasks.add", group="main", prompt="echo ding", kind="interval", value="3600")
    room.go("tasks")
    tab.click("button", "Run now")
    tab.click("summary", "Ledger")
    tab.wait_text("ran", ".ledger .badge")
    tab.click("button", "Pause")
    tab.wait_text("Resume", "button")
    assert room.ask("tasks.show", task=made["id"])["state"] == "paused"
    assert tab.value("document.querySelector('details').open")  # it stays open through all this


def test_what_an_agent_asks_for_is_shown_in_full_and_decided(room: Room) -> None:
    tab = room.tab
    room.go("live")
    room.ask("groups.add", chat="console:kids", requires_trigger=False)
    for button, state in (("Deny", "denied"), ("Allow", "done")):
        with room.daemon.talk("console:kids") as kids:
            kids.say('use request_host {"host": "example.org"}')
            tab.wait_text("host = example.org", ".card.attention")
            code = tab.value("document.querySelector('.card.attention .badge').innerText")
            tab.click(".card.attention button", button)
            tab.wait("document.querySelector('.card.attention') === null")
            kids.wait(lambda event: "A person in main" in event.get("text", ""))
        states = {each["code"]: each["state"] for each in room.ask("approvals", every=True)}
        assert states[code] == state


def test_usage_is_drawn_logs_are_followed_and_the_audit_is_shown(room: Room) -> None:
    tab = room.tab
    room.go("usage")
    tab.wait("document.querySelector('.plot rect.c0')?.height.baseVal.value > 10")
    tab.click("summary", "Figures")
    tab.wait_text("main", "td")
    room.go("log")
    tab.wait_text("run started", ".log .line")
    tab.click("#filter")
    tab.type("group resumed or some such")
    tab.wait_text("No such line", ".log")
    tab.value("document.querySelector('#filter').value = ''")
    with room.daemon.talk() as talk:
        talk.call("send", chat="console:main", text="/new")
        talk.reply()
    tab.click("button", "Log")  # of the run that this ended
    tab.wait_text("start", "dialog pre")
    tab.press("Escape")
    tab.wait("document.querySelector('dialog') === null")
    room.go("audit")
    tab.wait_text("group registered", ".badge")


def test_the_keyboard_reaches_everything(room: Room) -> None:
    tab = room.tab
    tab.open(f"http://{room.web.where}/?anew#/live")
    tab.wait_text("Slots")
    reached: list[str] = []
    for _ in range(60):
        tab.press("Tab")
        here = tab.value(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return e === document.body ? '' : "
            "`${e.innerText}|${s.outlineStyle}|${s.outlineWidth}|${e.dataset.key}`; })()"
        )
        if here == "" or here in reached:
            break
        reached.append(here)
    words = [each.partition("|")[0] for each in reached]
    assert words[0] == "To the content"
    for wanted in ("Live", "Chat", "Tasks", "Usage", "Log", "Audit", "Pause", "Log out"):
        assert wanted in words
    assert all("|solid|2px|" in each for each in reached)  # and one sees where one is
    tab.value("document.querySelector('[data-key=tasks]').focus()")
    tab.press("Enter")
    tab.wait("document.body.dataset.view === 'tasks'")
    assert tab.value("document.querySelector('[aria-current]').innerText") == "Tasks"
    assert tab.value("document.activeElement.dataset.key") == "tasks"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(room: Room, dark: bool) -> None:
    tab = room.tab
    tab.dark(dark)
    for width, height in ((320, 568), (390, 844), (1200, 800)):
        tab.size(width, height, phone=width < 800)
        for view in ("live", "chat", "tasks", "usage", "log", "audit"):
            room.go(view)
            tab.wait("!document.querySelector('main > p.nothing:only-child')")
            wide = tab.value("document.documentElement.scrollWidth")
            assert wide <= width, f"{view} is {wide} wide on {width}"
            assert tab.value(TOO_FAINT) == [], f"{view}, dark: {dark}"
    tab.size(1200, 800)
    tab.dark(False)


# Texts whose contrast is below what WCAG AA asks for, with the ground they stand on.
TOO_FAINT = """
(() => {
  const parse = (c) => (c.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (c) => {
    const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const box = e.getBoundingClientRect();
    if (!own || !box.width || e.closest("svg") || e.tagName === "OPTION" || e.tagName === "NOSCRIPT") continue;
    const one = light(parse(getComputedStyle(e).color).slice(0, 3)), other = light(ground(e));
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${e.className || e.tagName}: ${ratio.toFixed(2)} ${e.innerText.slice(0, 20)}`);
  }
  return found;
})()
"""


EVIL = b"""<!doctype html><title>evil</title><script>
const there = "http://TARGET";
const tries = [
  () => fetch(there + "/ask/status", {method: "POST", credentials: "include", body: "{}"}),
  () => fetch(there + "/ask/send", {method: "POST", credentials: "include", mode: "no-cors", body: SAID}),
  () => fetch(there + "/ask/send", {method: "POST", credentials: "include",
                                    headers: {"Content-Type": "application/json"}, body: SAID}),
  () => fetch(there + "/", {credentials: "include"}),
  () => new Promise((done, not) => { const s = new EventSource(there + "/news", {withCredentials: true});
                                     s.onmessage = done; s.onerror = not; }),
  () => new Promise((done, not) => { const f = document.createElement("iframe"); f.src = there;
                                     f.onload = () => { try { f.contentDocument.title; done(); } catch { not(); } };
                                     document.documentElement.append(f); }),
];
window.outcome = Promise.allSettled(tries.map((each) => each())).then((all) =>
  all.map((one) => one.status === "rejected" ? "no" : "yes"));
</script>"""


@contextmanager
def evil_page(target: str) -> Iterator[str]:
    """A page of another program on this machine: the same site to a browser, another origin."""
    said = json.dumps({"chat": "console:main", "text": "echo evil", "message_id": "evilevil"})
    page = EVIL.replace(b"TARGET", target.encode()).replace(b"SAID", json.dumps(said).encode())

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

    with open_http_server(Handler) as url:
        yield f"{url}/"


def test_another_page_in_the_same_browser_can_do_nothing(room: Room) -> None:
    room.tab.size(1200, 800)
    with evil_page(room.web.where) as url:
        room.tab.open(url)
        room.tab.wait("window.outcome !== undefined")
        outcome = room.tab.value("window.outcome")
    room.tab.open(f"http://{room.web.where}/")
    room.tab.wait_text("Slots")  # the cookie was there all the time
    assert outcome == ["no"] * 6
    assert "echo evil" not in [each["text"] for each in room.ask("history", chat="console:main")]
    assert room.tab.trouble != []  # the browser said so, too
    room.tab.trouble.clear()


def test_it_says_that_the_daemon_went_and_sees_it_come_back(room: Room) -> None:
    room.go("live")
    room.tab.wait_text("running", "#state")
    assert room.daemon.stop() == 0
    room.tab.wait_text("It is not running")
    room.go("log")
    room.tab.wait_text("stopped", ".log .line")
    room.go("live")
    with running(room.daemon.home.root, "bwrap"):
        room.tab.wait_text("Slots")
        room.tab.wait_text("running", "#state")
    room.tab.trouble.clear()  # questions that nobody answered
