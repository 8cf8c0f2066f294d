"""What an agent's programs reach of an internet, from a real sandbox through the daemon's own lookups and checks."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.house import Talk, running
from tests.internet import Internet, bare_repository


def shell(talk: Talk, command: str) -> str:
    """What a command in the sandbox wrote, out and error."""
    talk.say(f"bash ({command}) 2>&1")
    return talk.reply().removeprefix("The tool said: ")


def test_programs_reach_public_hosts_and_nothing_else(tmp_path: Path, internet: Internet) -> None:
    # threat N4, invariant 165
    internet.page("www.example.org", "page.html", "<p>a page of theirs")
    bare_repository(internet.site("git.example.org"), "recipes", {"soup.md": "Boil water."})
    with running(tmp_path / "home", "bwrap", inside=internet) as daemon, daemon.talk() as talk:
        for scheme in ("https", "http"):
            assert "a page of theirs" in shell(
                talk, f"curl -sS {scheme}://www.example.org/page.html"
            )
        assert "Boil water." in shell(
            talk, "git clone -q https://git.example.org/recipes.git && cat recipes/soup.md"
        )
        for name in ("loopback", "router", "metadata", "partly"):
            told = shell(talk, f"curl -sS http://{name}.example.org/")
            assert f"{name}.example.org is not on the public internet" in told
        assert "nowhere.example is not known" in shell(talk, "curl -sS http://nowhere.example/")
    assert {seen.scheme for seen in internet.seen("www.example.org")} == {"https", "http"}
    assert internet.seen("partly.example.org") == []
