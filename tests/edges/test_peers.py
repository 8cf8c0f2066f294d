"""What `just bench --peers` stands on: a model that remembers who came when, and a page that hides nobody."""

import http.client
import json
import time
from typing import Any

import pytest

from tests.benchmarks import peers
from tests.benchmarks.recorder import SAID, open_recorder


def _row(figure: str, median: float = 0.0) -> dict[str, Any]:
    return {"figure": figure, "unit": "", "median": median, "best": median, "runs": 3}


@pytest.mark.parametrize("path", ["/v1/messages?beta=true", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_model_answers_and_knows_when_the_words_came(path: str, stream: bool) -> None:
    with open_recorder() as recorder:
        connection = http.client.HTTPConnection("127.0.0.1", recorder.port, timeout=10)
        times = []
        for words in ("hello-0001", "hello-0002"):
            times.append(time.perf_counter())
            asked = {"stream": stream, "messages": [{"role": "user", "content": words}]}
            connection.request("POST", path, json.dumps(asked))
            with connection.getresponse() as answer:
                assert answer.status == 200
                assert SAID in answer.read().decode()
        connection.close()
        arrived = recorder.first("hello-0002", 1)
        assert arrived is not None
        assert times[1] < arrived < time.perf_counter()
        assert recorder.first("hello-0003", 0) is None


def test_the_page_has_a_column_for_each_and_a_reason_for_whoever_has_none() -> None:
    rows = [
        _row("with many groups: start to ready", 1.0),
        _row("Pynchy 1.0: start to ready", 234.0),
        _row("letta 2.0: start to ready", 34.56),
        _row("letta 2.0: idle wake-ups", 7.0),
        _row("copaw 3.0: not measured: it was not ready within 120 s"),
        _row(peers.LOAD, 0.5),
    ]
    lines = peers.section(rows).splitlines()
    assert "| figure | Pynchy 1.0 | letta 2.0 |" in lines
    assert "| start to ready, ms | 234 (234) | 34.6 (34.6) |" in lines
    assert "| idle wake-ups, per s |  | 7.0 (7.0) |" in lines
    assert "- copaw 3.0: not measured: it was not ready within 120 s" in lines
    assert [row["figure"] for row in rows if not peers.concerns(row)] == [
        "with many groups: start to ready"
    ]
    assert peers.section(rows[:1]) == ""
