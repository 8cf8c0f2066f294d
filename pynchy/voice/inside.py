"""The program in the sandbox that puts a voice note into words: ``python -I -S -c THIS OPTIONS``.

It gets the note on stdin and prints its words. OPTIONS is JSON: the ``size`` of the note, where the ``packages`` and
the ``model`` are, the ``language`` ("" for any), a ``prompt`` with words that may be said, how many ``threads`` it may
have and how many ``seconds`` it listens to. Exit codes: 3 for what is no sound, 4 for a model that cannot be used, 5
for packages.

It is given to Python as text, and nothing of ours is there when it runs.
"""

import io
import json
import os
import sys
from typing import Any

NO_SOUND, NO_MODEL, NO_PACKAGES = 3, 4, 5
RATE = 16_000  # what whisper listens to


def main() -> int:
    options = json.loads(sys.argv[1])
    sys.path.insert(0, options["packages"])
    note = sys.stdin.buffer.read(options["size"])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no part of the words
    try:
        import _pywhispercpp as whisper
        import numpy
        import soundfile
        from pywhispercpp.model import Model
    except ImportError as error:
        return _failed(NO_PACKAGES, error)
    try:
        with soundfile.SoundFile(io.BytesIO(note)) as file:
            rate, whole = file.samplerate, file.frames
            heard = file.read(options["seconds"] * rate, dtype="float32", always_2d=True)
    except (RuntimeError, ValueError, TypeError) as error:  # soundfile's errors are RuntimeErrors
        return _failed(NO_SOUND, error)
    samples = heard.mean(axis=1)
    if rate != RATE:
        at = numpy.arange(int(len(samples) * RATE / rate)) * (rate / RATE)
        samples = numpy.interp(at, numpy.arange(len(samples)), _low(numpy, samples, rate))
    if not len(samples):
        return _failed(NO_SOUND, "it is empty")
    try:
        model = Model(
            options["model"],
            n_threads=options["threads"],
            print_progress=False,
            redirect_whispercpp_logs_to=False,
        )
    except (RuntimeError, ValueError, OSError) as error:
        return _failed(NO_MODEL, error)
    if not model._ctx:
        return _failed(NO_MODEL, "whisper.cpp does not take it")
    many = whisper.whisper_is_multilingual(model._ctx)
    language = (options["language"] or "auto") if many else "en"
    found = model.transcribe(
        samples.astype("float32"), language=language, initial_prompt=options["prompt"]
    )
    words = " ".join(each.text.strip() for each in found).strip()
    if words and whole > len(heard):
        words += f" [what follows after {options['seconds'] // 60} minutes was not listened to]"
    out.write(words)
    out.flush()
    return 0


def _low(numpy: Any, samples: Any, rate: int) -> Any:
    """The samples without what a lower rate cannot carry."""
    if rate < RATE or len(samples) < 201:
        return samples
    edge, at = 7_600 / rate, numpy.arange(-100, 101)
    kernel = 2 * edge * numpy.sinc(2 * edge * at) * numpy.hamming(201)
    return numpy.convolve(samples, kernel.astype("float32"), "same")


def _failed(code: int, why: object) -> int:
    sys.stderr.write(f"{why}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
