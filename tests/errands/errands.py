"""The errands, each with the words of a household, what a model does for them, and what is seen of it from outside."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import time
import traceback
import zipfile
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import attrs

from pynchy.config.paths import Home
from pynchy.config.settings import Voice
from pynchy.container import toolbox
from pynchy.voice.parts import packages_lack, parts_of
from tests.clients.programs import PAGE, furnish
from tests.end_to_end.test_built_in_tools import pdf
from tests.errands.household import WORK, House, Room
from tests.errands.model import Together, bash, look_up, told, tool
from tests.internet import bare_repository
from tests.messages_api import Request
from tests.voice.lab import MODEL


class NotHere(Exception):
    """This machine lacks what the errand needs; the text says what."""


@attrs.frozen
class Errand:
    name: str
    words: str  # what they say
    run: Callable[[House, Room], None]

    @property
    def folder(self) -> str:
        return self.name.lower().replace(" ", "-").replace(":", "")


ERRANDS: Final[list[Errand]] = []


def errand(name: str, words: str) -> Callable[[Callable[[House, Room], None]], None]:
    def add(run: Callable[[House, Room], None]) -> None:
        ERRANDS.append(Errand(name, words, run))

    return add


def made(folder: Path, script: str) -> None:
    """Run a script of the test's with the toolbox, outside: it makes what people send."""
    python = toolbox.place() / "bin" / "python3"
    subprocess.run([python, "-c", script], cwd=folder, check=True, timeout=60)


def python(script: str) -> Any:
    """A step that writes a script and runs it; of a name that the standard library has, too."""
    return bash(f"cat >calendar.py <<'X'\n{script}\nX\npython3 calendar.py")


def part(name: Path, member: str) -> str:
    """A part of an office file, read without the libraries that wrote it."""
    with zipfile.ZipFile(name) as packed:
        return packed.read(member).decode()


@errand("weather", "what is the weather tomorrow?")
def weather(_: House, room: Room) -> None:
    def searches(call: Request) -> Any:
        assert "WebSearch" in str(call.body)
        return [("WebSearch", {"query": "weather Berlin tomorrow"})]

    answer = room.say(
        "what is the weather tomorrow?",
        searches,
        lambda call: f"Tomorrow it is {re.findall('sunny, [0-9]+ degrees', told(call))[0]}.",
    )
    assert "Tomorrow it is sunny, 21 degrees." in answer
    assert room.house.spent(room.folder).dollars > 0.01  # a search costs a cent


@errand("a page", "read https://www.example.org/bread.html and give me three points")
def page(house: House, room: Room) -> None:
    house.internet.page("www.example.org", "bread.html", "<p>Take rye, and salt. Wait two hours.")
    house.internet.page("other.example.net", "bread.html", "<p>Take rye, and salt.")
    house.pynchy("groups", "set", room.folder, "egress", "allowlist")
    house.pynchy("groups", "set", room.folder, "hosts", "www.example.org")

    def points(call: Request) -> str:
        return f"Three points: {told(call)}"

    fetch = [("WebFetch", {"url": "https://www.example.org/bread.html", "prompt": "three points"})]
    assert "Three points: rye; salt; two hours" in room.say(
        "read https://www.example.org/bread.html and give me three points", fetch, points
    )
    # Another host is refused, in words that tell the model what to ask for; the owner allows it.
    fetch = [("WebFetch", {"url": "https://other.example.net/bread.html", "prompt": "points"})]

    def ask(call: Request) -> Any:
        assert "other.example.net is not on this group's list of hosts" in call.mid_turn
        assert "request_host" in call.mid_turn
        return look_up("request_host")

    room.say(
        "and https://other.example.net/bread.html, in points?",
        fetch,
        ask,
        tool("request_host", host="other.example.net"),
        "I may not read that page yet. The owner is asked.",
    )
    assert house.internet.seen("other.example.net") == []
    [asked] = house.asked("approvals", "list")
    room.plays("approved", lambda _: "I may read it now.")
    house.pynchy("approvals", "approve", asked["code"])
    assert "Three points: rye; salt" in room.say("read it now, please", fetch, points)


@errand("a package", "install leaflet and use it")
def package(house: House, room: Room) -> None:
    furnish(house.internet)
    use = f"cd {WORK} && python3 -c 'import leaflet' && node -e 'require(\"leaflet\")'"
    room.say(
        "install leaflet and use it",
        bash("pip install leaflet 2>&1 && npm install -g leaflet 2>&1"),
        bash(use),
        lambda call: f"It says: {told(call)}",
    )
    room.say("/new")
    again = room.say("use leaflet again", bash(use), lambda call: f"It says: {told(call)}")
    assert again.count(PAGE) == 2
    assert house.internet.seen("pypi.org")
    assert house.internet.seen("registry.npmjs.org")


@errand(
    "a repository", "clone https://git.example.org/soup.git, tell me what it does, fix the typo"
)
def repository(house: House, room: Room) -> None:
    bare = bare_repository(
        house.internet.site("git.example.org"), "soup", {"README.md": "Boils watr.\n"}
    )
    push = "cd soup && sed -i s/watr/water/ README.md && git commit -qam 'Spell water' && git push -q && echo pushed"
    answer = room.say(
        "clone https://git.example.org/soup.git, tell me what it does, fix the typo",
        bash("git clone -q https://git.example.org/soup.git && cat soup/README.md"),
        lambda call: bash(push) if "Boils watr." in told(call) else "There is nothing.",
        lambda call: f"It boils water; the fix is {told(call)}.",
    )
    assert "the fix is pushed" in answer
    log = ["git", "-C", str(bare), "-c", f"safe.directory={bare}", "log", "-1", "-p"]
    seen = subprocess.run(log, capture_output=True, text=True, check=True).stdout
    assert "Pynchy <pynchy@localhost>" in seen
    assert "+Boils water." in seen


@errand("a long PDF", "what does contract.pdf, of 40 pages, say about the deposit?")
def long_pdf(_: House, room: Room) -> None:
    (room.files / "contract.pdf").write_bytes(pdf(40, {31: "The deposit is 900."}))
    file = f"{WORK}/contract.pdf"

    def by_pages(call: Request) -> Any:
        if "[application/pdf]" in told(call):  # where poppler is missing, it is read whole
            return bash("true")
        return [("Read", {"file_path": file, "pages": "21-40"})]

    def search(call: Request) -> Any:
        assert "not installed" not in told(call)
        return python(
            "import pypdf\n"
            "for number, page in enumerate(pypdf.PdfReader('contract.pdf').pages, 1):\n"
            "    if 'deposit' in page.extract_text(): print(number, page.extract_text())"
        )

    answer = room.say(
        "what does contract.pdf, of 40 pages, say about the deposit?",
        [("Read", {"file_path": file})],
        by_pages,
        search,
        lambda call: f"On page {told(call)}",
    )
    assert "On page 31 The deposit is 900." in answer


_OFFICE: Final = """
import openpyxl, docx, pptx
book = openpyxl.Workbook()
for row in (["what", "price"], ["bread", 3], ["milk", 1], ["sum", "=SUM(B2:B3)"]): book.active.append(row)
book.active["B2"].number_format = "0.00"
book.save("prices.xlsx")
letter = docx.Document(); line = letter.add_paragraph(); line.add_run("Bread: ").bold = True; line.add_run("3")
letter.save("letter.docx")
slides = pptx.Presentation(); slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "Bread 3"
slides.save("slides.pptx")
"""
_NEW_PRICES: Final = """
import openpyxl, docx, pptx
book = openpyxl.load_workbook("prices.xlsx")
book.active["B2"] = 3.5
book.save("new-prices.xlsx")
letter = docx.Document("letter.docx"); letter.paragraphs[0].runs[1].text = "3.50"; letter.save("new-letter.docx")
slides = pptx.Presentation("slides.pptx"); run = slides.slides[0].shapes.title.text_frame.paragraphs[0].runs[0]
run.text = run.text.replace("3", "3.50"); slides.save("new-slides.pptx")
print("sum", 3.5 + book.active["B3"].value)
"""


@errand(
    "a spreadsheet", "put the new price of bread, 3.50, into these three files and send them back"
)
def spreadsheet(_: House, room: Room) -> None:
    made(room.files, _OFFICE)
    names = ("new-prices.xlsx", "new-letter.docx", "new-slides.pptx")
    answer = room.say(
        "put the new price of bread, 3.50, into these three files and send them back",
        [("Skill", {"skill": "documents"})],
        python(_NEW_PRICES),
        lambda call: [
            ("mcp__pynchy__send_file", {"path": name, "caption": told(call)}) for name in names
        ],
        "Here they are.",
    )
    assert "Here they are." in answer
    book, letter, slides = [room.is_sent(name) for name in names]
    sheet = part(book, "xl/worksheets/sheet1.xml")
    assert "<f>SUM(B2:B3)</f>" in sheet
    assert "<v>3.5</v>" in sheet
    text = part(letter, "word/document.xml")
    assert "<w:b/>" in text
    assert "3.50" in text
    assert "Bread 3.50" in part(slides, "ppt/slides/slide1.xml")


_FIGURES: Final = """
import matplotlib, os, pandas
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
table = pandas.read_csv("months.csv")
table.plot.bar(x="month", y="euro")
plt.savefig("chart.png")
fonts = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
pdfmetrics.registerFont(TTFont("DejaVu", os.path.join(fonts, "DejaVuSans.ttf")))
page = Canvas("invoice.pdf")
page.setFont("DejaVu", 14)
page.drawString(72, 700, f"Invoice № 7: {table.euro.sum()} €")
page.save()
"""


@errand("a chart", "make a chart of months.csv, and an invoice as PDF")
def chart(_: House, room: Room) -> None:
    (room.files / "months.csv").write_text("month,euro\nMay,12\nJune,30\n")
    room.say(
        "make a chart of months.csv, and an invoice as PDF",
        [("Skill", {"skill": "documents"})],
        python(_FIGURES),
        [("Read", {"file_path": f"{WORK}/chart.png"})],  # it looks at what it made
        lambda call: (
            [("mcp__pynchy__send_file", {"path": name}) for name in ("chart.png", "invoice.pdf")]
            if told(call) == "[image/png]"
            else "There is no chart."
        ),
        "Both are there.",
    )
    assert room.is_sent("chart.png").read_bytes()[:4] == b"\x89PNG"
    invoice = room.is_sent("invoice.pdf")
    made(
        invoice.parent,
        "import pypdf, sys\n"
        f"sys.exit('Invoice № 7: 42 €' not in pypdf.PdfReader({str(invoice)!r}).pages[0].extract_text())",
    )


@errand("a voice note", "(spoken) Andy, send the list to Anna.")
def voice_note(house: House, room: Room) -> None:
    """Spoken words through the real engine, in a sandbox; then they are said to a group that wants to be called."""
    lab = os.environ.get("PYNCHY_TEST_VOICE", "")
    if not lab:
        raise NotHere("a model and speech, which .ci/voice makes")
    if lack := packages_lack(parts_of(Home(Path(lab)), Voice(model=MODEL), engine=house.engine)):
        raise NotHere(lack)
    voice = house.daemon.home.voice
    if not voice.exists():
        voice.symlink_to(Path(lab, "voice"))
    house.daemon.home.config.write_text(f'[voice]\nenabled = true\nmodel = "{MODEL}"\n'
        f'[container]\nengine = "{house.engine}"\n')  # fmt: skip
    words = house.pynchy("voice", "try", str(Path(lab, "speech", "andy.ogg"))).strip()
    assert words == "Andy, send the list to Anna."
    house.pynchy("groups", "add", room.chat, "--folder", room.folder, "--trigger", "Andy")
    house.pynchy("groups", "set", room.folder, "answers", "name")
    assert "The list is sent." in room.say(f"[voice note] {words}", "The list is sent.")


@errand("a standing wish", 'from now on, when I write "gm", give me my day')
def standing_wish(house: House, room: Room) -> None:
    wish = "When somebody writes gm: give them their day (the calendar is day.txt)."
    (room.files / "day.txt").write_text("9:00 dentist\n")
    notes = f"cat >>{WORK}/CLAUDE.md <<'X'\n{wish}\nX"
    room.say('from now on, when I write "gm", give me my day', bash(notes), "I will.")

    def knows(call: Request) -> Any:
        return bash("cat day.txt") if wish in str(call.body) else "Good morning to you, too."

    def answer(call: Request) -> str:
        return f"Your day: {told(call)}"

    room.say("/new")
    assert "Your day: 9:00 dentist" in room.say("gm", knows, answer)
    room.say("/new")
    house.stop()
    house.start()
    assert "Your day: 9:00 dentist" in room.say("gm", knows, answer)


@errand("weekdays at 7:30", "every weekday at 7:30, but not on holidays, tell me what is on")
def weekdays(house: House, room: Room) -> None:
    today = datetime.now(ZoneInfo("Europe/Berlin")).strftime("%Y-%m-%d")
    holidays = room.files / "holidays.txt"
    holidays.write_text(f"{today}\n")
    script = 'date +%Z; ! grep -qx "$(date +%F)" holidays.txt'
    room.plays("TASK say what is on", lambda call: f"Good morning. {zone(str(call.body))}")

    def zone(said: str) -> str:
        return "Central European" if re.search(r"CES?T\b", said) else "some time zone"

    answer = room.say(
        "every weekday at 7:30, but not on holidays, tell me what is on",
        look_up("schedule_task"),
        tool(
            "schedule_task",
            prompt="TASK say what is on",
            schedule_type="cron",
            schedule_value="30 7 * * 1-5",
            context_mode="isolated",
            script=script,
        ),
        lambda call: f"It is set: {told(call)}",
    )
    assert "T07:30:00+0" in answer  # where the people are, not where the machine is
    [task] = room.tasks()
    run_in_vain(room, task["id"])
    holidays.write_text("2000-01-01\n")
    house.pynchy("tasks", "run", task["id"])
    assert "Central European" in room.hears("Good morning.")


def run_in_vain(room: Room, task: str) -> None:
    """Run a task now, and wait until its script has seen no reason to wake the model: nothing is said, or spent."""
    before = room.house.spent(room.folder)
    room.house.pynchy("tasks", "run", task)
    room.ends_silently()
    assert room.house.spent(room.folder) == before


@errand("what was said", "what did Anna say about allergies last month?")
def what_was_said(_: House, room: Room) -> None:
    for sender, words in (
        ("Anna", "my allergy is to peanuts"),
        ("Anna", "the doctor says that the allergy is to hazelnuts as well"),
        ("Yuki", "私は花粉症です"),
    ):
        room.say(words, "Noted.", sender=sender)
    room.say("/new")

    def newest_first(call: Request) -> Any:
        found = told(call)
        assert "peanuts" in found
        assert found.index("hazelnuts") < found.index("peanuts")
        return tool("search_history", query="花粉")

    answer = room.say(
        "what did Anna say about allergies last month?",
        look_up("search_history"),
        tool("search_history", query="Anna allergies"),
        newest_first,
        lambda call: f"Peanuts and hazelnuts; Yuki: {'花粉症' in told(call)}",
    )
    assert "Peanuts and hazelnuts; Yuki: True" in answer


@errand("three laptops", "compare the laptops A, B and C and send me a table")
def laptops(house: House, room: Room) -> None:
    helpers = [f"HELPER look at laptop {name}" for name in "ABC"]
    for price, words in enumerate(helpers, start=7):
        room.plays(words, f"{words[-1]} costs {price}00")
        house.model.together[words] = together = house.model.together.get(helpers[0]) or Together(3)

    def table(call: Request) -> str:
        rows = sorted(re.findall(r"([ABC]) costs (\d+)", told(call)))
        assert len(rows) == 3, told(call)
        return "\n".join(
            ["| laptop | price |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)]
        )

    answer = room.say(
        "compare the laptops A, B and C and send me a table",
        look_up("delegate"),
        [("mcp__pynchy__delegate", {"prompt": words}) for words in helpers],
        table,
    )
    assert together.everybody.is_set(), "they did not work at once"
    assert "| A | 700 |" in answer
    assert "| C | 900 |" in answer


_RECEIPT: Final = """
from PIL import Image, ImageDraw
for width, total in ((600, "12.75"), (500, "4.25")):
    receipt = Image.new("L", (width, 100), 255)
    ImageDraw.Draw(receipt).text((20, 20), f"Total {total}", fill=0)
    receipt.save(f"receipt-{width}.png")
"""
_ADD: Final = """
import openpyxl, os
book = openpyxl.load_workbook("month.xlsx") if os.path.exists("month.xlsx") else openpyxl.Workbook()
book.active.append(["shop", {amount}])
book.save("month.xlsx")
print("total", sum(row[1] for row in book.active.iter_rows(values_only=True) if row[1]))
"""


@errand("a receipt", "(photo of a receipt) add it to the month's sheet")
def receipt(_: House, room: Room) -> None:
    """What is on a picture the model knows by its size: that it has come to it whole is what is shown."""
    made(room.files, _RECEIPT)

    def adds(call: Request) -> Any:
        [block] = [block for block in call.blocks if block["type"] == "tool_result"]
        picture = b64decode(block["content"][0]["source"]["data"])
        [width] = struct.unpack(">I", picture[16:20])
        return python(_ADD.format(amount={600: 12.75, 500: 4.25}[width]))

    def add(width: int) -> str:
        return room.say(
            f"receipt-{width}.png: add it to the month's sheet",
            [("Read", {"file_path": f"{WORK}/receipt-{width}.png"})],
            adds,
            lambda call: f"Added; {told(call)}",
        )

    assert "Added; total 12.75" in add(600)
    room.say("/new")  # another day
    assert "Added; total 17.0" in add(500)
    assert (room.files / "month.xlsx").exists()


@errand("a page that changes", "tell me when https://www.example.org/price changes")
def changes(house: House, room: Room) -> None:
    house.internet.page("www.example.org", "price", "12 euros")
    (room.files / "old").write_text("12 euros")
    script = (
        "curl -sS -o new https://www.example.org/price;"
        " if cmp -s new old; then exit 1; fi; mv new old; cat old"
    )
    room.plays(
        "TASK tell of the new price",
        lambda call: f"It changed to {re.findall('1[23] euros', str(call.body))[-1]}.",
    )
    room.say(
        "tell me when https://www.example.org/price changes",
        look_up("schedule_task"),
        tool(
            "schedule_task",
            prompt="TASK tell of the new price",
            schedule_type="interval",
            schedule_value=3600,
            context_mode="isolated",
            script=script,
        ),
        "I will look every hour.",
    )
    [task] = room.tasks()
    run_in_vain(room, task["id"])
    assert "/price" in [seen.path for seen in house.internet.seen("www.example.org")]
    house.internet.page("www.example.org", "price", "13 euros")
    house.pynchy("tasks", "run", task["id"])
    assert room.hears("It changed to") == "It changed to 13 euros."


@attrs.frozen
class Outcome:
    """What came of an errand; ``why`` is empty if it worked."""

    errand: Errand
    seconds: float
    why: str = ""
    is_here: bool = True
    calls: int = 0
    tokens: int = 0

    @property
    def line(self) -> str:
        state = "worked" if not self.why else "FAILED" if self.is_here else "not here"
        figures = f"{self.calls:3} calls {self.tokens:8,} tokens {self.seconds:5.1f} s"
        return f"{self.errand.name:20} {state:9} {figures}" + (f"   {self.why}" if self.why else "")


def carry_out(house: House, errand: Errand) -> Outcome:
    """One errand, in a group of its own. What goes wrong is in the outcome."""
    began = time.monotonic()
    why, is_here = "", True
    try:
        errand.run(house, house.room(errand.folder))
        assert not house.model.wrong, house.model.wrong
    except NotHere as lack:
        why, is_here = f"needs {lack}", False
    except Exception as error:  # whatever it is: the next errand is tried all the same
        seen = [*house.model.wrong, "".join(traceback.format_exception(error))]
        why = "\n".join(seen)[-3000:]
    house.model.wrong.clear()
    spent = house.spent(errand.folder)
    return Outcome(
        errand, time.monotonic() - began, why, is_here, calls=spent.calls, tokens=spent.tokens
    )
