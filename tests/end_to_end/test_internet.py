"""What an agent's programs reach of an internet, from a real sandbox through the daemon's own lookups and checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import trustme

from tests.end_to_end.house import HANG, Talk, environment, running
from tests.end_to_end.test_looking_in import pynchy
from tests.end_to_end.test_tools import until
from tests.internet import Internet, bare_repository


def shell(talk: Talk, command: str) -> str:
    """What a command in the sandbox wrote, out and error."""
    talk.say(f"bash ({command}) 2>&1")
    return talk.reply().removeprefix("The tool said: ")


def test_a_tasks_script_looks_at_a_page(tmp_path: Path, internet: Internet) -> None:
    """Told when a page changes: the script looks cheaply, and wakes the model only then."""
    internet.page("www.example.org", "price", "12 euros")
    script = (
        "curl -sS -o new https://www.example.org/price && curl -sS http://loopback.example.org/;"
        " if cmp -s new old; then exit 1; fi; mv new old; cat old"
    )
    task = {"prompt": "echo it changed", "script": script, "schedule_type": "interval",
            "schedule_value": 86400, "context_mode": "group"}  # fmt: skip
    with running(tmp_path / "home", "bwrap", inside=internet) as daemon, daemon.talk() as talk:
        talk.say(f"use schedule_task {json.dumps(task)}")
        told = talk.reply()
        name = told.partition("scheduled as ")[2].partition(";")[0]
        refused = "The gateway refused a connection: loopback.example.org is not on the public"
        pynchy(tmp_path / "home", "tasks", "run", name)
        assert talk.reply() == "it changed"
        talks = [each.read_text() for each in daemon.home.data.rglob("*.jsonl")]
        assert any("12 euros" in each and refused in each for each in talks)
        pynchy(tmp_path / "home", "tasks", "run", name)
        until(lambda: len(internet.seen("www.example.org")) == 2)
        assert talk.ask("echo so far") == "so far"  # nothing was said before this: nothing changed
    assert (tmp_path / "home" / "groups" / "main" / "old").read_text() == "12 euros"


def test_a_proxy_is_on_the_way_of_agents_too(tmp_path: Path, internet: Internet) -> None:
    for host in ("www.example.org", "hidden.example.org", "other.example.net"):
        internet.page(host, "page.html", f"a page of {host}")
    settings = (f"gateway.proxy={internet.proxy}", "gateway.no_proxy=.example.net")
    with (
        running(tmp_path / "home", "bwrap", *settings, inside=internet) as daemon,
        daemon.talk() as talk,
    ):
        for scheme in ("https", "http"):
            for host in ("www.example.org", "hidden.example.org", "other.example.net"):
                told = shell(talk, f"curl -sS {scheme}://{host}/page.html")
                assert f"a page of {host}" in told
            # A name that leads inside goes no further, whatever a proxy would say.
            told = shell(talk, f"curl -sSv {scheme}://router.example.org/")
            assert "router.example.org is not on the public internet" in told
            told = shell(talk, f"curl -sSv {scheme}://nowhere.example/")
            words = {
                "https": "refuses nowhere.example:443: 502 Unknown host",
                "http": "502 Unknown host",
            }
            assert words[scheme] in told
    asked = {(seen.method, seen.path) for seen in internet.seen() if seen.scheme == "proxy"}
    assert asked == {
        ("CONNECT", "www.example.org:443"),
        ("CONNECT", "hidden.example.org:443"),
        ("CONNECT", "nowhere.example:443"),
        ("GET", "http://www.example.org/page.html"),
        ("GET", "http://hidden.example.org/page.html"),
        ("GET", "http://nowhere.example/"),
    }
    assert len(internet.seen("other.example.net")) == 2


def test_the_certificates_of_the_settings_are_those_of_agents(
    tmp_path: Path, internet: Internet
) -> None:
    internet.page("www.example.org", "page.html", "a page of theirs")
    home, other = tmp_path / "home", tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    look = "curl -sS https://www.example.org/page.html; wget -qO- https://www.example.org/page.html"
    for file, answers in ((internet.ca_file, 2), (other, 0)):
        with (
            running(home, "bwrap", f"gateway.ca_file={file}", inside=internet) as daemon,
            daemon.talk() as talk,
        ):
            told = shell(talk, f"{look}; cat $REQUESTS_CA_BUNDLE")
            assert told.count("a page of theirs") == answers
            assert file.read_text().strip() in told


def test_the_doctor_tries_the_proxy(tmp_path: Path, internet: Internet) -> None:
    internet.page("api.anthropic.com", "v1", "")

    def doctor(proxy: str, *words: str) -> tuple[str, str]:
        env = environment(tmp_path / "home", PYNCHY_GATEWAY_PROXY=proxy)
        look = [sys.executable, "-m", "pynchy", "doctor", "--json", *words]
        done = subprocess.run(
            internet.command(look), env=env, capture_output=True, text=True, timeout=HANG
        )
        [row] = [row for row in json.loads(done.stdout) if row["check"] == "proxy"]
        return row["level"], row["what"]

    assert doctor("") == ("ok", "none; gateway.proxy names one, where there has to be")
    assert doctor(internet.proxy)[0] == "ok"
    level, what = doctor(internet.proxy, "--online")
    assert (level, what) == ("ok", f"{internet.proxy} lets us out, and refuses what is inside")
    level, what = doctor(internet.lax_proxy, "--online")
    assert level == "warn"
    assert "does not refuse 127.0.0.1, 10.0.0.1" in what
    level, what = doctor("http://127.0.0.1:9")
    assert (level, "does not answer" in what) == ("fail", True)


def test_programs_reach_public_hosts_and_nothing_else(tmp_path: Path, internet: Internet) -> None:
    # threat N4, invariant 165
    internet.page("www.example.org", "page.html", "<p>a page of theirs")
    bare_repository(internet.site("git.example.org"), "recipes", {"soup.md": "Boil water."})
    with running(tmp_path / "home", "bwrap", inside=internet) as daemon, daemon.talk() as talk:
        for scheme in ("https", "http"):
            assert "a page of theirs" in shell(
                talk, f"curl -sS {scheme}://www.example.org/page.html"
            )
        look = "import urllib.request as u; print(u.urlopen('https://www.example.org/page.html').read())"
        assert "a page of theirs" in shell(talk, f'python3 -c "{look}"')  # by CONNECT in HTTP/1.0
        # Those that bring a list of certificates trust the machine's nonetheless.
        for library in ("requests", "httpx"):
            look = (
                f"import {library}; print({library}.get('https://www.example.org/page.html').text)"
            )
            assert "a page of theirs" in shell(talk, f'python3 -c "{look}"')
        look = "fetch('https://www.example.org/page.html').then(a => a.text()).then(console.log)"
        assert "a page of theirs" in shell(talk, f'node -e "{look}"')
        assert "Boil water." in shell(
            talk, "git clone -q https://git.example.org/recipes.git && cat recipes/soup.md"
        )
        # A server of the agent's own is reached at each address that servers say they have.
        look = "curl -sS -o /dev/null -w '%{http_code} ' --retry-connrefused --retry 9 http://"
        looks = "; ".join(look + host for host in ("localhost:8000", "0.0.0.0:8000"))
        serve = "python3 -m http.server 8000 >/dev/null 2>&1 & one=$!"
        assert shell(talk, f"{serve}; {looks}; kill $one").strip().endswith("200 200")
        for name in ("loopback", "router", "metadata", "partly"):
            told = shell(talk, f"curl -sS http://{name}.example.org/")
            assert f"{name}.example.org is not on the public internet" in told
        assert "nowhere.example is not known" in shell(talk, "curl -sS http://nowhere.example/")
    assert {seen.scheme for seen in internet.seen("www.example.org")} == {"https", "http"}
    assert internet.seen("partly.example.org") == []
