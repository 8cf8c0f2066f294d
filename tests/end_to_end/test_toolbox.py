"""The toolbox, as an agent uses it: real files read, changed and made; and what it installs is kept, and is its own."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from pynchy.container import toolbox
from pynchy.container.engines.bwrap import Bwrap
from pynchy.model import GroupId
from tests.end_to_end.house import Talk, running

#: What an agent writes and runs. It begins with what a household might send, and prints what it found.
ERRANDS = r"""
import datetime, email, email.message, email.policy, io, json, os
import docx, icalendar, matplotlib, openpyxl, pandas, pillow_heif, pptx, pypdf, pypdfium2
from PIL import Image, ImageDraw, ImageFont
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

found = {}
fonts = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")

# A spreadsheet comes, gets new prices and keeps its formulas.
book = openpyxl.Workbook()
sheet = book.active
for row in (["what", "price"], ["bread", 3], ["milk", 1], ["sum", "=SUM(B2:B3)"]):
    sheet.append(row)
sheet["B2"].number_format = "0.00 €"
book.create_sheet("second")["A1"] = "kept"
book.save("prices.xlsx")
book = openpyxl.load_workbook("prices.xlsx")
book["Sheet"]["B2"] = 3.5
book.save("new prices.xlsx")
found["table"] = pandas.read_excel("new prices.xlsx").iloc[:2].to_markdown(index=False)

letter = docx.Document()
line = letter.add_paragraph()
line.add_run("Dear ").bold = True
line.add_run("Anna")
letter.save("letter.docx")
letter = docx.Document("letter.docx")
letter.paragraphs[0].runs[1].text = "Björn"
letter.save("new letter.docx")

slides = pptx.Presentation()
slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "Holidays"
slides.save("slides.pptx")
found["slides"] = [each.shapes.title.text for each in pptx.Presentation("slides.pptx").slides]

import matplotlib.pyplot as plt
pandas.read_csv(io.StringIO("month,euro\nMay,12\nJune,30")).plot.bar(x="month", y="euro")
plt.savefig("chart.png")

pdfmetrics.registerFont(TTFont("DejaVu", os.path.join(fonts, "DejaVuSans.ttf")))
pdfmetrics.registerFont(UnicodeCIDFont("HeiseiKakuGo-W5"))
page = Canvas("invoice.pdf")
page.setFont("DejaVu", 14)
page.drawString(72, 700, "Счёт № 7: 1.200,50 €")
page.setFont("HeiseiKakuGo-W5", 14)
page.drawString(72, 660, "請求書")
page.save()
found["invoice"] = pypdf.PdfReader("invoice.pdf").pages[0].extract_text()

page = Canvas("contract.pdf")
for number in range(1, 41):
    page.drawString(72, 700, "The deposit is 900." if number == 31 else f"Clause {number}.")
    page.showPage()
page.save()
texts = [each.extract_text() for each in pypdf.PdfReader("contract.pdf").pages]
found["deposit"] = [len(texts)] + [n for n, text in enumerate(texts, 1) if "deposit" in text]
pypdfium2.PdfDocument("contract.pdf")[30].render(scale=2).to_pil().save("page.png")

pillow_heif.register_heif_opener()
Image.new("RGB", (64, 48), "red").save("photo.heic")
Image.open("photo.heic").convert("RGB").save("photo.jpg")

receipt = Image.new("L", (700, 200), 255)
draw = ImageDraw.Draw(receipt)
font = ImageFont.truetype(os.path.join(fonts, "DejaVuSans.ttf"), 40)
draw.text((20, 20), "Bread 3.50", font=font, fill=0)
draw.text((20, 100), "Total 12.75", font=font, fill=0)
receipt.rotate(1, fillcolor=255).save("receipt.png")

mail = email.message.EmailMessage()
mail["Subject"] = "Grüße"
mail.set_content("body")
read = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
event = icalendar.Event.new(summary="Dentist", start=datetime.datetime(2026, 5, 3, 9, tzinfo=datetime.UTC))
found["others"] = [str(read["subject"]), str(icalendar.Event.from_ical(event.to_ical())["summary"])]
print(json.dumps(found))
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def installed(engine: str) -> None:
    if engine == Bwrap.name:
        assert toolbox.state(toolbox.place()) == "current", "set-up installs it: just setup"


def test_documents_and_figures_are_read_changed_and_made(home: Home, runtime_name: str) -> None:
    installed(runtime_name)
    with running(home.root, runtime_name) as daemon, daemon.talk() as talk:
        talk.ask("echo here")
        work = home.group(GroupId("main"))
        # Of any name, one that the standard library has, too.
        (work / "calendar.py").write_text(ERRANDS)
        said = talk.ask("bash python3 calendar.py 2>&1").removeprefix("The tool said: ")
        assert said.startswith("{"), said
        found = json.loads(said.splitlines()[-1])
        assert "| bread  |     3.5 |" in found["table"]
        assert found["slides"] == ["Holidays"]
        assert "Счёт № 7: 1.200,50 €" in found["invoice"]
        assert found["deposit"] == [40, 31]
        assert found["others"] == ["Grüße", "Dentist"]
        # Seen from outside, without the libraries that wrote them.
        with zipfile.ZipFile(work / "new prices.xlsx") as book:
            sheet = book.read("xl/worksheets/sheet1.xml").decode()
            assert "<f>SUM(B2:B3)</f>" in sheet
            assert "<v>3.5</v>" in sheet
            assert "0.00" in book.read("xl/styles.xml").decode()
            assert "second" in book.read("xl/workbook.xml").decode()
        with zipfile.ZipFile(work / "new letter.docx") as letter:
            text = letter.read("word/document.xml").decode()
            assert "<w:b/>" in text
            assert "Björn" in text
        assert (work / "chart.png").read_bytes()[:4] == b"\x89PNG"
        assert (work / "photo.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
        assert (work / "invoice.pdf").read_bytes()[:5] == b"%PDF-"
        assert "fontlist" in talk.ask("bash ls .cache/matplotlib"), "it is built once, and kept"
        _programs(talk, work, runtime_name)
        assert daemon.stop() == 0


def _programs(talk: Talk, work: Path, engine: str) -> None:
    """The programs beside the packages, where they are: always in an image."""
    if engine != Bwrap.name or shutil.which("tesseract"):
        assert "12.75" in talk.ask("bash tesseract receipt.png - --psm 6 2>/dev/null")
    if engine != Bwrap.name or shutil.which("pdftoppm"):
        said = talk.ask('use Read {"file_path": "/workspace/group/contract.pdf", "pages": "30-31"}')
        assert "not installed" not in said
        assert "deposit" in talk.ask("bash pdftotext -f 31 -l 31 contract.pdf - 2>&1")
    if engine != Bwrap.name or shutil.which("opusdec"):
        (work / "tone.py").write_text(
            "import wave\nwith wave.open('t.wav', 'wb') as file:\n"
            "    file.setparams((1, 2, 16000, 0, 'NONE', ''))\n    file.writeframes(bytes(32000))\n"
        )
        encoded = "opusenc --quiet t.wav t.ogg && opusdec --quiet --rate 16000 t.ogg u.wav"
        assert "decoded" in talk.ask(f"bash python3 tone.py && {encoded} && echo decoded")


def wheel(folder: Path) -> Path:
    """A package that says hello, as pip installs it, with a program of its own."""
    info = "greeting-1.0.dist-info"
    files = {
        "greeting.py": "def main():\n    print('hello from', __name__)\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreet = greeting:main\n",
        f"{info}/RECORD": "",
    }
    path = folder / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return path


def package(folder: Path) -> None:
    """The same for npm."""
    (folder / "waving").mkdir()
    about = {"name": "waving", "version": "1.0.0", "bin": {"wave": "wave.js"}, "main": "wave.js"}
    (folder / "waving" / "package.json").write_text(json.dumps(about))
    (folder / "waving" / "wave.js").write_text("#!/usr/bin/env node\nconsole.log('a wave')\n")


#: What the shells have, and nothing of ours: neither the CLI, whose number a shell knows, nor our part of the agent.
VARIABLES = "PYTHONUSERBASE NPM_CONFIG_PREFIX NODE_PATH MPLCONFIGDIR GIT_CONFIG_SYSTEM".split()


@pytest.mark.runtime("bwrap", "podman")
def test_what_an_agent_installs_is_kept_for_it_and_is_never_ours(
    home: Home, runtime_name: str
) -> None:
    installed(runtime_name)
    with running(home.root, runtime_name) as daemon, daemon.talk() as talk:
        talk.ask("echo here")
        work = home.group(GroupId("main"))
        wheel(work)
        package(work)
        assert "Successfully installed" in talk.ask(
            "bash pip install --no-index ./greeting-*.whl 2>&1"
        )
        pack = "npm pack --silent ./waving && npm i --offline -g ./waving-1.0.0.tgz 2>&1"
        assert "added 1 package" in talk.ask(f"bash {pack}")
        for life in range(2):
            assert "hello from greeting" in talk.ask("bash greet")
            assert "hello from g" in talk.ask("bash python3 -c 'import greeting; greeting.main()'")
            assert "a wave" in talk.ask("bash wave")
            assert "a wave" in talk.ask("""bash node -e 'require("waving")'""")
            if not life:
                talk.say("/new")
                talk.reply()
        # A helper has it, too, and cannot change it: what it installs itself goes with it.
        helper = {
            "prompt": "bash greet && pip install --no-index ./greeting-*.whl 2>&1; ls .python"
        }
        said = talk.ask(f"use delegate {json.dumps(helper)}")
        assert "hello from greeting" in said
        assert "Read-only" not in said
        each = "$CLAUDE_PID $(pgrep -f 'pynchy_[a]gent' | head -1)"
        seen = talk.ask(f"bash for each in {each}; do tr '\\0' '\\n' </proc/$each/environ; done")
        assert "ANTHROPIC_BASE_URL" in seen
        assert not [name for name in VARIABLES if f"{name}=" in seen]
        assert "/workspace" not in next(
            line for line in seen.splitlines() if line.startswith("PATH=")
        )
        assert all(f"{name}=" in talk.ask("bash env") for name in VARIABLES)
        # Git knows who commits, and leaves it to the agent to be another.
        commit = "git init -q r && cd r && git commit -q --allow-empty -m one && git log -1 --format='%an <%ae>'"
        assert "Pynchy <pynchy@localhost>" in talk.ask(f"bash {commit}")
        other = "git -c user.name=Andy commit -q --allow-empty -m two && git log -1 --format=%an"
        assert "Andy" in talk.ask(f"bash {other}")
        assert daemon.stop() == 0
