"""What the owner allows a group beyond its folder, seen from inside its sandbox: mounts, ways out, money."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from pynchy.groups.turn import TOO_LONG
from pynchy.limits import ANSWERS
from tests.end_to_end.house import Talk, running
from tests.end_to_end.test_looking_in import asked, pynchy


def allow(home: Path, *roots: Path, write: bool = False) -> None:
    file = home / "mount-allowlist.json"
    document = {"allowedRoots": [{"path": str(root), "allowReadWrite": write} for root in roots]}
    file.write_text(json.dumps(document))
    file.chmod(0o600)


def actions(home: Path) -> list[str]:
    return [row["action"] for row in asked(home, "audit")]


def project(tmp_path: Path) -> Path:
    site = tmp_path / "projects" / "site"
    site.mkdir(parents=True)
    site.chmod(0o777)  # a daemon of root's runs its agents as somebody else
    (site / "page.txt").write_text("a page of ours")
    (site / ".env").write_text("CANARY=1")
    (site / ".ssh").mkdir()
    (site / ".ssh" / "id_rsa").write_text("CANARY=2")
    return site


def test_a_folder_is_mounted_when_the_allowlist_says_so(tmp_path: Path) -> None:
    # threat M3, M4, M6, M8
    home, site = tmp_path / "home", project(tmp_path)
    with running(home, "bwrap") as daemon, daemon.talk() as owner:
        # No allowlist: the run goes on without, and main hears of it once.
        pynchy(home, "groups", "mount", "main", str(site), "--writable", exits=1)
        owner.say("bash ls /workspace/extra/site/ 2>&1; echo end")
        said = [owner.reply(), owner.reply()]
        assert any("runs without some of its mounts" in text for text in said), said
        assert any("No such file" in text and "end" in text for text in said), said
        assert actions(home)[:2] == ["mount refused", "mount added"]

        # Written meanwhile: looked for again by the next run.
        allow(home, tmp_path / "projects", write=True)
        assert "may be written" in pynchy(home, "mounts", "check")
        owner.say("/new")
        look = "cd /workspace/extra/site; cat page.txt .env; ls .ssh; echo mine > new.txt; echo end"
        answer = _until(owner, f"bash {look}", "end")
        assert "a page of ours" in answer
        assert "CANARY" not in answer
        assert "id_rsa" not in answer
        assert (site / "new.txt").read_text() == "mine\n"
        [main] = asked(home, "mounts", "list")
        assert main["refused"] == []
        assert [each["writable"] for each in main["mounts"]] == [True, False, False]

        # Another group: read only, and not where main writes.
        pynchy(home, "groups", "add", "console:kids", "--no-trigger")
        assert actions(home)[0] == "group registered"
        (site / "inner").mkdir()
        inner = pynchy(home, "groups", "mount", "kids", str(site / "inner"), exits=1)
        assert "where a container can write" in inner
        ours = pynchy(home, "groups", "mount", "kids", str(home), "--name", "state", exits=1)
        assert "Pynchy's own" in ours
        pynchy(home, "groups", "unmount", "kids", "state")
        pynchy(home, "groups", "unmount", "kids", "state", exits=2)
        pynchy(home, "groups", "mount", "nowhere", str(site), exits=2)

        # One that others can write is none.
        (home / "mount-allowlist.json").chmod(0o666)
        pynchy(home, "mounts", "reload", exits=2)
        pynchy(home, "mounts", "check", exits=78)
        [main, _] = asked(home, "mounts", "list")
        assert main["mounts"] == []


def _until(talk: Talk, text: str, word: str) -> str:
    talk.say(text)
    return str(
        talk.wait(lambda event: event["event"] == "message" and word in event["text"])["text"]
    )


def test_a_template_is_written_once_and_is_an_allowlist(tmp_path: Path) -> None:
    home = tmp_path / "home"
    pynchy(home, "mounts", "init")
    assert "~/projects: read only" in pynchy(home, "mounts", "check")
    pynchy(home, "mounts", "init", exits=1)


def test_a_budget_that_is_used_up_is_said_in_the_chat_and_written_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "bwrap", "budget.day_tokens=1") as daemon, daemon.talk() as owner:
        owner.say("echo hello")
        said = owner.wait(
            lambda event: event["event"] == "message" and "budget" in event["text"].lower()
        )
        assert "hello" not in said["text"]
        assert "budget used up" in actions(home)


def test_what_a_group_may_reach_is_set_by_the_owner_and_refusals_are_written_down(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    with running(home, "bwrap") as daemon, daemon.talk() as owner:
        pynchy(home, "groups", "set", "main", "hosts", "*.example.org")
        pynchy(home, "groups", "set", "main", "egress", "allowlist")
        for key, value in (
            ("egress", "everything"), ("hosts", "10.0.0.1"), ("server_tools", "telepathy"),
            ("budget.day_dollars", "nan"), ("mounts", "/"), ("trigger", "x"),
        ):  # fmt: skip
            pynchy(home, "groups", "set", "main", key, value, exits=2)
        fetch = "import urllib.request as u;u.urlopen('http://example.com/')"
        assert "403" in _until(owner, f'bash python3 -c "{fetch}" 2>&1 | tail -1', "4")
        owner.say("/new")
        _until(owner, "echo afresh", "afresh")
        rows = {row["action"]: row for row in asked(home, "audit")}
        assert rows["setting changed"]["actor"] == "owner"
        assert (
            "example.com is not on this group's list" in rows["gateway refused"]["detail"]["what"]
        )


def test_a_group_that_an_agent_changes_is_written_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "bwrap") as daemon, daemon.talk() as owner:
        owner.ask('use update_group {"folder": "main", "name": "Home"}')
        assert "group changed" in actions(home)


BABBLER = """
import json, sys
text = "{} word " * 110_000
def say(**frame):
    print("---PYNCHY_OUTPUT_START---", json.dumps(frame), "---PYNCHY_OUTPUT_END---", sep="\\n", flush=True)
def serve(prompt):
    say(type="result", text=text.replace("{}", "a"), answered=[prompt["id"]], session=None)
    for number in range(15):
        say(type="result", text=text.replace("{}", str(number)), answered=[], session=None)
    say(type="idle")
start = json.loads(sys.stdin.readline())
say(type="ready")
for prompt in start.get("prompts", []):
    serve(prompt)
for line in sys.stdin:
    heard = json.loads(line)
    if heard["type"] == "prompt":
        serve(heard)
    elif heard["type"] == "close":
        break
"""


def test_one_answer_is_not_a_flood_of_messages(tmp_path: Path) -> None:  # threat S8, I8
    home = tmp_path / "home"
    with running(home, "bwrap", "container.command=python3 -u /workspace/group/agent.py") as daemon:
        (home / "groups" / "main" / "agent.py").write_text(BABBLER)
        with daemon.talk() as owner:
            for words in ("tell me all", "and again"):
                owner.say(words)
                for _ in range(2):  # the answer's end, and that of what nobody asked for
                    owner.wait(lambda event: TOO_LONG in str(event.get("text")))
        daemon.stop()
    with closing(sqlite3.connect(home / "store" / "pynchy.db")) as db:
        said = [len(text) for (text,) in db.execute("SELECT text FROM outbox")]
    assert len(said) == 4 * ANSWERS.pieces
    assert sum(said) > 350_000, "what may be said of it is"


def test_an_answer_that_hides_its_rest_says_so(tmp_path: Path) -> None:  # threat S8
    with running(tmp_path / "home", "bwrap") as daemon, daemon.talk() as owner:
        assert owner.ask("echo seen <internal>unseen").strip() == "seen"
        assert "for myself" in owner.reply()
