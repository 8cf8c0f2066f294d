"""What of a model call's head passes the gateway."""

import json

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.gateway.exchange import COUNT_TOKENS, MESSAGES, RunIdentity
from pynchy.gateway.policy import Head, Refusal, admit, check_framing, safe_betas
from pynchy.model import GroupId, RunId

WHO = RunIdentity(RunId("0123456789abcdef"), GroupId("family"), "the-run-token")

BASE = {
    b"host": b"127.0.0.1:1",
    b"authorization": b"Bearer the-run-token",
    b"content-type": b"application/json",
    b"content-length": b"10",
}


def head(
    target: bytes = b"/v1/messages",
    *more: tuple[bytes, bytes],
    method: bytes = b"POST",
    **without: str,
) -> Head:
    kept = [pair for pair in BASE.items() if pair[0].decode() not in without.values()]
    return Head(method, target, (*kept, *more))


def refused(given: Head, who: RunIdentity = WHO) -> int:
    def pass_through() -> None:
        check_framing(given)
        admit(who, given)

    with pytest.raises(Refusal) as raised:
        pass_through()
    assert json.loads(raised.value.body())["error"]["message"]
    assert who.token == "" or who.token.encode() not in raised.value.body()
    return raised.value.status


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1/messages", MESSAGES),
        (b"/v1/messages?beta=true", MESSAGES),
        (b"/v1/messages/count_tokens", COUNT_TOKENS),
        (b"/v1/messages/count_tokens?beta=true", COUNT_TOKENS),
    ],
)
def test_the_two_calls_pass(target: bytes, path: str) -> None:
    admitted = admit(WHO, head(target))
    assert (admitted.path, admitted.target) == (path, target.decode())


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/v1/files",
        b"/v1/messages/batches",
        b"/v1/messages/",
        b"/v1/messages?beta=false",
        b"/v1/messages?beta=true&x=y",
        b"/v1/messages#x",
        b"/v1/messages/../files",
        b"/v1/messages/count_tokens/../../files",
        b"/v1/%6dessages",
        b"/V1/messages",
        b"//v1/messages",
        b"//api.anthropic.com/v1/messages",
        b"/v1//messages",
        b"/v1/messages;x",
        b"/v1/messages%00",
    ],
)
def test_no_other_path_passes(target: bytes) -> None:  # threat N2, N3
    assert refused(head(target)) == 403


@given(st.binary(max_size=40))
def test_no_path_that_is_not_on_the_list_passes(tail: bytes) -> None:
    target = b"/v1/messages" + tail
    if target not in (b"/v1/messages", b"/v1/messages?beta=true"):
        assert refused(head(target)) == 403


@pytest.mark.parametrize(
    "method", [b"GET", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"post", b"TRACE"]
)
def test_only_post_passes(method: bytes) -> None:
    assert refused(head(method=method)) == 405


@pytest.mark.parametrize(
    "credentials",
    [
        [],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer other")],
        [(b"authorization", b"Bearer the-run-toke")],
        [(b"authorization", b"Bearer the-run-token2")],
        [(b"authorization", b"the-run-token")],
        [(b"authorization", b"Basic the-run-token")],
        [(b"x-api-key", b"sk-ant-of-the-container")],
        # One that fits doesn't carry another along.
        [(b"authorization", b"Bearer the-run-token"), (b"x-api-key", b"sk-ant-of-the-container")],
        [(b"authorization", b"Bearer the-run-token"), (b"authorization", b"Bearer other")],
    ],
)
def test_a_token_that_does_not_fit_is_refused(credentials: list[tuple[bytes, bytes]]) -> None:
    given = head(b"/v1/messages", *credentials, a="authorization")
    assert refused(given) == 401


def test_an_empty_run_token_fits_nothing() -> None:
    who = RunIdentity(WHO.run, WHO.group, "")
    assert refused(head(b"/v1/messages", (b"x-api-key", b""), a="authorization"), who) == 401
    assert (
        refused(head(b"/v1/messages", (b"authorization", b"Bearer "), a="authorization"), who)
        == 401
    )


def test_the_token_fits_as_either_credential() -> None:
    admit(WHO, head(b"/v1/messages", (b"x-api-key", b"the-run-token"), a="authorization"))
    admit(WHO, head(b"/v1/messages", (b"x-api-key", b"the-run-token")))


def test_credentials_and_the_unknown_are_not_forwarded() -> None:  # threat N3
    given = head(
        b"/v1/messages",
        (b"x-api-key", b"the-run-token"),
        (b"cookie", b"a=b"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"anthropic-version", b"2023-06-01"),
        (b"user-agent", b"claude-cli/2"),
        (b"x-stainless-os", b"Linux\x80"),
        (b"x-app", b"a" * 300),
    )
    assert dict(admit(WHO, given).headers) == {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "user-agent": "claude-cli/2",
    }


@pytest.mark.parametrize(
    ("more", "without", "status"),
    [
        ([(b"transfer-encoding", b"chunked")], "", 400),
        ([(b"content-length", b"11")], "", 400),
        ([(b"content-length", b"10")], "", 400),
        ([(b"host", b"other")], "", 400),
        ([], "host", 400),
        ([(b"upgrade", b"h2c")], "", 400),
        ([(b"content-length", b"33554433")], "content-length", 413),
        ([(b"content-type", b"text/plain")], "content-type", 415),
        ([], "content-type", 415),
        ([(b"content-encoding", b"gzip")], "", 415),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(  # threat N2
    more: list[tuple[bytes, bytes]], without: str, status: int
) -> None:
    assert refused(head(b"/v1/messages", *more, a=without)) == status


def test_a_target_that_names_its_host_needs_no_other() -> None:
    # As http.client of Python before 3.12 asks for a tunnel, and with it pip, requests and urllib there.
    check_framing(Head(b"CONNECT", b"x.example.org:443", ()))
    check_framing(Head(b"GET", b"http://x.example.org/", ((b"upgrade", b"h2c"),)))
    for target in (b"x.example.org:443", b"http://x.example.org/"):
        with pytest.raises(Refusal):
            check_framing(Head(b"GET", target, ((b"host", b"a"), (b"host", b"a"))))


@given(st.text())
def test_a_refusal_fits_in_a_status_line(message: str) -> None:
    phrase = Refusal(403, "permission_error", message).phrase()
    assert len(phrase) <= 400
    h11.Response(status_code=403, headers=[], reason=phrase)  # refuses what is no reason phrase
    assert b"\n" not in phrase


# What the CLI that we ship asks for.
CLI_BETAS = (
    b"claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14,"
    b"context-management-2025-06-27,per-turn-control-2026-07-01,"
    b"mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,"
    b"advanced-tool-use-2025-11-20,effort-2025-11-24,thinking-display-updates-2026-08-18,"
    b"extended-cache-ttl-2025-04-11"
)


def test_the_betas_of_the_cli_pass_but_for_its_login() -> None:
    wanted = CLI_BETAS.decode().split(",")
    wanted.remove("oauth-2025-04-20")
    assert safe_betas(CLI_BETAS) == wanted


@pytest.mark.parametrize(
    "beta",
    [
        "mcp-client-2025-04-04",
        "mcp-servers-2025-12-04",
        "files-api-2025-04-14",
        "code-execution-2025-08-25",
        "skills-2025-10-02",
        "web-fetch-2025-09-10",
        "web-search-2025-03-05",
        "managed-agents-2026-04-01",
        "agent-memory-2026-07-22",
        "message-batches-2024-09-24",
        "fast-mode-2026-02-01",
        "advisor-tool-2026-03-01",
        "oauth-2025-04-20",
        "effort",
        "effort-2025-11-24\r\nx-api-key: y",
        "EFFORT-2025-11-24",
        "",
    ],
)
def test_betas_that_reach_further_are_dropped(beta: str) -> None:
    assert safe_betas(f"{beta},effort-2025-11-24".encode()) == ["effort-2025-11-24"]
