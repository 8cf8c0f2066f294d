"""Who may use the page."""

from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynchy.web.gate import (
    ACTS,
    HEADERS,
    LOOKS,
    MAX_SESSIONS,
    Request,
    Sessions,
    cookie_name,
    cookie_of,
    hostname,
    refusal,
)

OURS = "127.0.0.1:8710"
NONE: frozenset[str] = frozenset()


def get(host: str | None = OURS, origin: str | None = None, site: str | None = None) -> Request:
    return Request("GET", host, origin, site, None)


def post(
    host: str | None = OURS,
    origin: str | None = f"http://{OURS}",
    site: str | None = "same-origin",
    content_type: str | None = "application/json",
) -> Request:
    return Request("POST", host, origin, site, content_type)


def status(request: Request, *names: str, public: bool = False) -> int:
    no = refusal(request, frozenset(names), public=public)
    return 200 if no is None else no.status


@pytest.mark.parametrize("host", [OURS, "localhost:8710", "LOCALHOST", "[::1]:8710", "localhost:9"])
def test_the_loopback_has_three_names_and_any_port(host: str) -> None:
    assert status(get(host)) == 200
    assert status(post(host, f"http://{host}")) == 200


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example:8710",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "evil.example,localhost",
        "localhost,localhost",
        "localhost:8710:1",
        "localhost:123456",
        "localhost ",
        "127.0.0.2",
        "0.0.0.0",  # noqa: S104 - a name that browsers take for this machine
        "\u2170localhost",
        "localhost\u0661",
    ],
)
def test_a_name_that_is_not_ours_is_refused(host: str | None) -> None:
    assert status(get(host), public=True) == 421
    assert status(post(host, f"http://{host}")) == 421


def test_a_name_of_the_owners_is_ours_too() -> None:
    mine = "box.example"
    assert status(get(mine), mine) == 200
    assert status(post(mine, f"https://{mine}"), mine) == 200
    assert status(post(mine, f"https://{OURS}"), mine) == 403


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "http://evil.example",
        "http://127.0.0.1:8711",
        "http://127.0.0.1",
        "http://localhost:8710",
        "file://127.0.0.1:8710",
        "http://x@127.0.0.1:8710",
        "http://[",
        f"http://{OURS}, http://{OURS}",
    ],
)
def test_only_the_page_itself_may_post(origin: str | None) -> None:
    assert status(post(origin=origin)) == 403


def test_where_the_browser_says_who_asks_it_is_believed() -> None:
    for site in ("cross-site", "same-site", "none"):
        assert status(post(site=site)) == 403
        assert status(get(site=site)) == 403
    assert status(get(site="cross-site"), public=True) == 200  # a link to the empty page
    assert status(get(origin="http://evil.example"), public=True) == 403
    assert status(post(site=None)) == 200  # an old browser: the origin is enough
    assert status(get(site="same-origin")) == 200


def test_what_a_form_can_send_is_refused() -> None:
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert status(post(content_type=kind)) == 415
    assert status(post(content_type="application/json; charset=utf-8")) == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "get", ""])
def test_there_are_two_methods(method: str) -> None:
    assert status(Request(method, OURS, f"http://{OURS}", None, "application/json")) == 405


@given(st.text(max_size=60))
@example("localhost:8710")
@example("[::1]")
def test_whatever_is_said_a_name_is_ours_or_refused(host: str) -> None:
    name = hostname(host)
    answer = refusal(get(host), NONE, public=True)
    assert (answer is None) == (name in ("127.0.0.1", "localhost", "[::1]"))


def sessions() -> Sessions:
    secrets = count()
    return Sessions(lambda: f"secret-{next(secrets)}")


def test_a_link_opens_once() -> None:
    doors = sessions()
    first = doors.token
    session = doors.enter(first)
    assert session is not None
    assert doors.knows(session)
    assert doors.enter(first) is None
    assert doors.token not in (first, session)
    assert doors.enter(session) is None  # the cookie is no link
    assert not doors.knows(doors.token)  # and the link no cookie
    assert not doors.knows(None)
    assert not doors.knows("")
    assert not doors.knows("sécret")
    doors.leave(session)
    assert not doors.knows(session)


def test_a_wrong_token_spends_nothing() -> None:
    doors = sessions()
    for token in ("", "secret", "secret-00", "sécret", "\udcff"):
        assert doors.enter(token) is None
    assert doors.enter(doors.token) is not None


def test_the_oldest_browser_goes() -> None:
    doors = sessions()
    opened = [doors.enter(doors.token) for _ in range(MAX_SESSIONS + 2)]
    assert [doors.knows(each) for each in opened] == [False] * 2 + [True] * MAX_SESSIONS


def test_cookies() -> None:
    name = cookie_name(8710)
    assert cookie_of(f"a=1; {name}=xyz; b", name) == "xyz"
    assert cookie_of(f"a{name}=1; {name}x=2", name) is None
    assert cookie_of(None, name) is None
    assert cookie_name(8711) != name


def test_nothing_is_both_a_look_and_an_act_and_nothing_inline_runs() -> None:
    assert not LOOKS & ACTS
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
