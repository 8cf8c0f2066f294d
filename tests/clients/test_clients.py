"""A part of `just clients`: of each kind of program one that the machine has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.programs import furnish, programs
from tests.clients.rig import MODES, open_rig
from tests.clients.table import Cell, attempt
from tests.internet import Internet

#: The rest is much like these, or slow.
PART = (
    "curl https",
    "wget http",
    "git",
    "urllib http",
    "requests",
    "httpx",
    "aiohttp",
    "apt",
    "cargo",
    "go",
)
SAYING = ("wget http", "urllib http", "requests", "httpx", "aiohttp", "apt")


@pytest.mark.limit(300)
def test_programs_get_out_as_policy_says(internet: Internet, tmp_path: Path) -> None:
    # threat N3, N6, N7
    furnish(internet)
    found: dict[str, list[Cell]] = {}
    wrote: dict[str, str] = {}
    with open_rig(internet, tmp_path / "gateways") as rig:
        ours = [each for each in programs() if each.name in PART and each.is_here]
        ours += [each for each in programs() if each.name.startswith("pip") and each.is_here][:1]
        for program in ours:
            for mode in MODES:
                cell, wrote[f"{program.name}, {mode}"] = attempt(rig, program, mode)
                found.setdefault(program.name, []).append(cell)
    assert len(found) >= 6, "hardly any program is on this machine"
    for name, cells in found.items():
        assert cells[:2] == [Cell.GOT] * 2, (name, cells, wrote)
        assert set(cells[2:]) <= {Cell.TOLD, Cell.REFUSED}, (name, cells, wrote)
        if name in SAYING or name.startswith("pip"):
            assert cells[2:] == [Cell.TOLD] * 2, (name, cells, wrote)


def test_addresses_are_refused_as_such(internet: Internet, tmp_path: Path) -> None:
    # threat N4
    furnish(internet)
    with open_rig(internet, tmp_path / "gateways") as rig:
        for address in ("[2606:2800:220:1::37]", "93.184.216.34"):
            ran = rig.run("public", f"wget --tries=1 -O- http://{address}/page.txt")
            assert ran.code != 0
            assert "an address does not pass: name the host instead" in ran.output
        # What a program of the agent's serves in its own sandbox is no business of the gateway.
        own = (
            'python3 -c "import http.server as h, socket; h.HTTPServer.address_family = socket.AF_INET6;'
            " h.HTTPServer(('::1', 8000), h.SimpleHTTPRequestHandler).handle_request()\" 2>server &"
            " sleep 1; echo GOT it >page.txt; curl -sS http://[::1]:8000/page.txt"
        )
        assert "GOT it" in rig.run("public", own).output
    assert internet.seen() == []


_NODE = """
(async () => {
  const say = (...words) => console.log(...words.map(word => JSON.stringify(word)));
  const post = await fetch('https://www.example.org/-/echo', {
    method: 'POST', body: 'a body', headers: {'x-mine': '1'},
  });
  const echo = await post.json();
  say(echo.method, echo.body, echo.headers['x-mine'] ?? echo.headers['X-Mine']);
  const moved = await fetch('http://www.example.org/-/to?https://files.example.org/-/status/404');
  say(moved.status, moved.redirected, moved.url, moved.statusText);
  const large = await fetch('https://www.example.org/large');
  let size = 0;
  for await (const piece of large.body) size += piece.length;
  say(size);
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 300);
  await fetch('https://www.example.org/-/trickle', {signal: stop.signal}).then(a => a.text()).catch(e => say(e.name));
  const server = require('http').createServer((_, answer) => answer.end('ours')).listen(0, '127.0.0.1', async () => {
    say(await (await fetch('http://127.0.0.1:' + server.address().port)).text());
    server.closeAllConnections();
    server.close();
  });
})();
"""


def test_nodes_fetch_is_whole_through_the_proxy(internet: Internet, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    internet.page("www.example.org", "large", b"x" * 5_000_000)
    with open_rig(internet, tmp_path / "gateways") as rig:
        ran = rig.run("public", f"cat >it.js <<'X'\n{_NODE}\nX\nnode it.js")
    assert ran.output.splitlines() == [
        '"POST" "a body" "1"',
        '404 true "https://files.example.org/-/status/404" "Not Found"',
        "5000000",
        '"AbortError"',
        '"ours"',
    ]
    assert ran.code == 0
