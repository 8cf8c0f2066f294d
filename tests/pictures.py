"""The pictures of docs/web.md: `just pictures`. A real daemon with the offline model, a real browser.

They are looked at by people and compared by nobody: no test reads them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.chromium import browsing, program
from tests.edges.web_page import served
from tests.end_to_end.house import running

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
GROUPS = {"family": "The family", "boats": "Boat club", "work": "Work"}
TALK = (
    "echo Good morning! Three things today: the dentist at ten, Anna's cake, and the ferry at six.",
    "bash date -d 2026-03-01 +%A",
    'use remember {"text": "Anna likes cherry cake"}',
)
TASKS = {
    "Morning briefing": (
        "cron",
        "0 8 * * 1-5",
        "What is on today? The weather, the mail, the bins.",
    ),
    "Tides": ("cron", "30 18 * * 5", "When is high water on Saturday and Sunday?"),
    "Watch the ferry": ("interval", "7200", "Has the timetable changed? Say nothing if not."),
}


def main() -> None:
    if program() is None:
        sys.exit("no Chromium here: apt-get install chromium")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            running(folder / "home", "bwrap") as daemon,
            served(folder / "home") as web,
            browsing(folder / "profile") as browser,
            daemon.talk() as talk,
        ):
            for chat, called in GROUPS.items():
                talk.call("groups.add", chat=f"console:{chat}", name=called)
            for called, (kind, value, prompt) in TASKS.items():
                talk.call(
                    "tasks.add", group="main", name=called, kind=kind, value=value, prompt=prompt
                )
            for words in TALK:
                talk.ask(words)
            tab = browser.tab()
            tab.size(1200, 760)
            tab.open(web.links[-1])
            tab.wait_text("Slots")
            talk.say("bash tail -f /dev/null")
            tab.wait_text("uses Bash", ".steps")
            tab.picture(PICTURES / "web-live.png")
            tab.click("button", "Stop")
            tab.wait("document.querySelector('.card.busy') === null")
            tab.size(390, 700, phone=True)
            tab.dark(True)
            for view, seen in (("chat/console:main", "cherry cake"), ("tasks", "Tides")):
                tab.value(f"location.hash = '#/{view}'")
                tab.wait_text(seen, "main")
                tab.picture(PICTURES / f"web-{view.partition('/')[0]}-phone.png")


if __name__ == "__main__":
    main()
