"""What a household with an API key pays, without a word from it: real daemon, sandbox and CLI, a scripted API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.house import Daemon, Talk, environment, running
from tests.http_server import QuietHandler, open_http_server

READ = 2_050_000  # tokens at $2 for a million: $4.10, more than 80 % of $5


@contextmanager
def model_api(asked: list[dict[str, Any]]) -> Iterator[str]:
    """An API that answers everything with a word, and has read very much for it."""

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body)
            usage = {"input_tokens": READ, "output_tokens": 1}
            text = {"type": "text", "text": ""}
            events: list[dict[str, Any]] = [
                {
                    "type": "message_start",
                    "message": {
                        "id": f"msg_{len(asked)}",
                        "type": "message",
                        "role": "assistant",
                        "model": body["model"],
                        "content": [],
                        "stop_reason": None,
                        "stop_sequence": None,
                        "usage": usage,
                    },
                },
                {"type": "content_block_start", "index": 0, "content_block": text},
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": "Hello."},
                },
                {"type": "content_block_stop", "index": 0},
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 1},
                },
                {"type": "message_stop"},
            ]
            said = "".join(
                f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events
            )
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said.encode())

    with open_http_server(Handler) as url:
        yield url


@contextmanager
def open_paying_home(home: Path, asked: list[dict[str, Any]]) -> Iterator[tuple[Daemon, Talk]]:
    """A daemon with a key and nothing set besides. ``asked`` gets the bodies of its calls of the model."""
    with (
        model_api(asked) as url,
        running(home, "bwrap", f"model.base_url={url}", ANTHROPIC_API_KEY="sk-ant-x") as daemon,
        daemon.talk() as owner,
    ):
        yield daemon, owner


def tells(daemon: Daemon, *command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "pynchy", *command],
        env=environment(daemon.home.root),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.runtime("bwrap")
def test_a_key_without_settings_has_a_model_and_a_budget_and_main_hears_of_it(
    tmp_path: Path, runtime_name: str
) -> None:
    asked: list[dict[str, Any]] = []
    with open_paying_home(tmp_path / "home", asked) as (daemon, owner):
        before = owner.call("bill")
        assert (before["today"]["limit"], before["of_all"]["limit"]) == (5.0, 15.0)
        owner.say("hello")
        heard = {owner.reply(), owner.reply()}
        assert "Hello." in heard
        (warning,) = heard - {"Hello."}
        assert "$4.10 of today's $5.00 for main is used" in warning
        assert {each["model"] for each in asked} == {"claude-sonnet-5-5"}
        assert "sonnet (claude-sonnet-5-5). Today: $4.10 of $5.00, $0.90 left" in owner.ask(
            "/model"
        )
        for command in (("status",), ("usage",)):
            told = tells(daemon, *command)
            assert "sonnet (claude-sonnet-5-5)" in told
            assert "$4.10 of $5.00, $0.90 left" in told
            assert "$4.10 of $15.00, $10.90 left" in told
            assert "a conversation of about 2,050,000 tokens" in told


@pytest.mark.runtime("bwrap")
def test_a_group_held_to_other_models_than_the_usual_one_is_answered_by_one_of_them(
    tmp_path: Path, runtime_name: str
) -> None:
    asked: list[dict[str, Any]] = []
    with open_paying_home(tmp_path / "home", asked) as (daemon, owner):
        wrong = subprocess.run(
            [sys.executable, "-m", "pynchy", "groups", "set", "main", "budget.day_dollars", "-3"],
            env=environment(daemon.home.root),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (wrong.returncode, "budget.day_dollars: expected" in wrong.stderr) == (2, True)
        assert "models is opus" in tells(daemon, "groups", "set", "main", "models", "opus")
        owner.say("hello")
        assert "Hello." in {owner.reply(), owner.reply()}
        theirs = [each for each in asked if "system" in each]  # the daemon itself asks, too
        assert {each["model"] for each in theirs} == {"claude-opus-5-5"}
        assert "Model: opus (claude-opus-5-5)" in owner.ask("/model")
