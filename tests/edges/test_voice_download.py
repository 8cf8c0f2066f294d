"""Fetching a model: broken off and gone on with, and nothing taken that is not it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from pynchy.cli.client import Failure
from pynchy.cli.voice import _fetch_model
from pynchy.config.paths import Home, part_of
from pynchy.config.settings import Config, Voice
from pynchy.voice import models
from pynchy.voice.download import NotFetched, Route, fetch, take
from pynchy.voice.parts import wrong_with
from tests.http_server import QuietHandler, open_http_server

BODY = b"lmgg" + bytes(range(256)) * 4000


@attrs.define
class Place:
    """Who has models. ``breaks_after`` bytes of an answer it hangs up; ``ranges``: whether it can go on somewhere."""

    url: str = ""
    body: bytes = BODY
    status: int = 200
    breaks_after: int | None = None
    ranges: bool = True
    asked: list[str] = attrs.field(factory=list)


@contextmanager
def place() -> Iterator[Place]:
    has = Place()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            begin = self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-")
            has.asked.append(begin)
            start = int(begin) if has.ranges else 0
            if start and start >= len(has.body):
                self.send_error(416)
                return
            rest = has.body[start:]
            self.send_response(206 if start else has.status)
            self.send_header("content-length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest if has.breaks_after is None else rest[: has.breaks_after])

    with open_http_server(Handler) as url:
        has.url = f"{url}/ggml-x.bin"
        yield has


def get(has: Place, file: Path, model: str = "x") -> str:
    found = fetch(has.url, file, route=Route(), begun=lambda have, whole: None)
    take(file, model, found)
    return found


def test_a_model_is_fetched_whole_and_its_hash_told(tmp_path: Path) -> None:
    file = tmp_path / "voice" / "ggml-x.bin"
    assert wrong_with(file, "x") == "the model x was not fetched"
    with place() as has:
        assert get(has, file) == hashlib.sha256(BODY).hexdigest()
    assert (file.read_bytes(), part_of(file).exists()) == (BODY, False)
    assert wrong_with(file, "x") == ""


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path, ranges: bool) -> None:
    file = tmp_path / "ggml-x.bin"
    with place() as has:
        has.breaks_after, has.ranges = 300_000, ranges
        with pytest.raises(NotFetched, match="the same command goes on with it"):
            get(has, file)
        there = part_of(file).stat().st_size
        assert not file.exists()
        has.breaks_after = None
        get(has, file)
        assert has.asked == ["0", str(there)]
    assert file.read_bytes() == BODY


def test_a_download_that_was_whole_already_is_not_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "ggml-x.bin"
    part_of(file).write_bytes(BODY)
    with place() as has:
        get(has, file)
    assert file.read_bytes() == BODY


def test_what_is_not_the_model_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ggml-base.bin"
    with place() as has:
        with pytest.raises(NotFetched, match=r"not the model base as it is published.*was removed"):
            get(has, file, "base")
        has.body = b"<html>sign in first</html>"
        with pytest.raises(NotFetched, match=r"no model of whisper\.cpp"):
            get(has, file, "x")
        has.status = 404
        with pytest.raises(NotFetched, match="404 Not Found"):
            get(has, file, "x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFetched, match="refused"):
        get(has, file)


def test_a_file_that_somebody_cut_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / models.file_of("tiny")
    file.write_bytes(BODY)
    assert wrong_with(file, "tiny") == f"{file.name} has {len(BODY)} bytes, and not 77691713"
    file.write_bytes(b"<html>")
    assert wrong_with(file, "tiny") == f"{file.name} is no model of whisper.cpp"


def test_who_cannot_fetch_it_is_told_where_it_belongs(tmp_path: Path) -> None:
    with place() as there:
        there.status = 404
        url = there.url.rpartition("/")[0]
        config = Config(home=Home(tmp_path), voice=Voice(model="x", url=url))
        config.home.make()
        with pytest.raises(Failure, match="404 Not Found") as failed:
            _fetch_model(config)
        belongs = failed.value.message.rpartition("it belongs at ")[2].partition(";")[0]
        Path(belongs).parent.mkdir(exist_ok=True)
        Path(belongs).write_bytes(BODY)
        _fetch_model(config)
        assert there.asked == ["0"], "it is taken as it is, and not fetched again"
