"""Sessions of the live page: when they end, and that what somebody kept of one is worth nothing then."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from jobsync.web import dashboard, guard
from jobsync.web.guard import COOKIE, MOST_SESSIONS, SESSION_SEC, Guard
from tests.api.jobs import settings
from tests.web.test_dashboard import HERE, TOKEN, log_in


def asking(cookie: str) -> Request:
    """Give the request of a browser that has this cookie."""
    return Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={cookie}".encode())]})


@pytest.fixture
def client(server_dsn: str, prefix: str) -> Iterator[TestClient]:
    # No table is needed: what is looked at is only who may act.
    with TestClient(dashboard(settings(server_dsn, prefix), auth=TOKEN)) as client:
        yield client


def may_act(client: TestClient, cookie: str, mark: str) -> bool:
    """Tell whether a browser with this cookie would be heard; it asks for nothing that could be done."""
    client.cookies.clear()
    client.cookies.set(COOKIE, cookie)
    reply = client.post("/do", data={"mark": mark, "act": "[]"}, headers=HERE)
    assert reply.status_code in {400, 403}
    return reply.status_code == 400


def test_who_logs_out_ends_the_session_for_every_copy_of_its_cookie(client: TestClient) -> None:
    mark = log_in(client)
    kept = str(client.cookies[COOKIE])
    assert may_act(client, kept, mark)
    client.cookies.clear()
    other_mark = log_in(client)
    other = str(client.cookies[COOKIE])
    client.cookies.set(COOKIE, kept)
    client.post("/logout", headers={"origin": "https://evil.example"})
    assert may_act(client, kept, mark)
    assert client.post("/logout", headers=HERE).status_code == 200
    assert not may_act(client, kept, mark)
    assert may_act(client, other, other_mark)


def test_a_session_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now_sec = 1000.0
    monkeypatch.setattr(guard, "boot_sec", lambda: now_sec)
    door = Guard("token")
    first = door.new_session()
    now_sec += SESSION_SEC - 1
    assert door.session_of(asking(first)) == first
    now_sec += 1
    assert door.session_of(asking(first)) is None
    second = door.new_session()
    assert list(door._sessions) == [door._mark("session", second)]


def test_as_many_sessions_as_fit_are_kept_the_youngest_ones() -> None:
    door = Guard("token")
    cookies = [door.new_session() for _ in range(MOST_SESSIONS + 1)]
    assert [door.session_of(asking(each)) is not None for each in cookies] == [False] + [True] * MOST_SESSIONS


@pytest.mark.parametrize("cookie", ["", ".", "0.0.0", "\xff", "a" * 5000])
def test_what_is_no_session_lets_nobody_in(cookie: str) -> None:
    door = Guard("token")
    door.new_session()
    request: Any = asking("")
    request._cookies = {COOKIE: cookie}
    assert door.session_of(request) is None
    door.end_session(request)


def test_another_process_knows_nothing_of_a_session() -> None:
    first, second = Guard("token"), Guard("token")
    assert second.session_of(asking(first.new_session())) is None
