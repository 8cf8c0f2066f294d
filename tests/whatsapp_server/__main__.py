"""Play the scenarios and print what came of each: ``just whatsapp``, ``just whatsapp killed offline``."""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from tests.whatsapp_server.household import link_once
from tests.whatsapp_server.scenarios import STORIES, Row, Story, play

HEAD = f"{'scenario':48} {'sent':>5} {'lost':>5} {'twice':>5} {'again':>8}  what was promised"


def line(story: Story, row: Row) -> str:
    again = "" if row.recovered is None else f"{row.recovered:.1f} s"
    counts = f"{row.sent:5} {len(row.lost):5} {len(row.doubled):5} {again:>8}"
    kept = "kept" if not row.broken else "BROKEN"
    return f"{story.name:48} {counts}  {kept}: {story.promise}"


async def main(stories: list[Story], folder: Path) -> int:
    print(HEAD, flush=True)
    linked = await link_once(folder / "linked")
    broken = 0
    for number, story in enumerate(stories):
        row = await play(story, folder / str(number), linked)
        broken += bool(row.broken)
        print(line(story, row), flush=True)
        for words in row.broken:
            print(f"    BROKEN  {words}", flush=True)
        for words in row.notes:
            print(f"    {words}", flush=True)
    print(f"{len(stories)} scenarios, {broken} with a broken promise", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just whatsapp", description=__doc__)
    parser.add_argument("words", nargs="*", help="only those whose name has one of these in it")
    parser.add_argument("--list", action="store_true", help="their names and what they promise")
    parser.add_argument("--ci", action="store_true", help="only those that CI plays")
    parser.add_argument("--keep", type=Path, help="a new folder for homes and logs; it stays")
    options = parser.parse_args()
    chosen = [
        each
        for each in STORIES.values()
        if (not options.words or any(word in each.name for word in options.words))
        and (each.in_ci or not options.ci)
    ]
    if options.list:
        for each in chosen:
            print(f"{each.name:48} {'CI' if each.in_ci else '':3} {each.promise}")
        raise SystemExit(0)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pynchy-whatsapp.") as temporary:
        code = trio.run(partial(main, chosen, options.keep or Path(temporary)))
    print(f"{time.monotonic() - began:.0f} s")
    raise SystemExit(code)
