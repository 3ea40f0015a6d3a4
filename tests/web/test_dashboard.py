"""The live page against a real fleet: what it shows, what it refuses, and that it escapes, recovers and asks rarely."""

import asyncio
import html
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.testclient import TestClient

from jobsync import CoordinationConfig, ExtraMissing, Job, JobQueue, NewJob, ProcessingWorker
from jobsync.api.moving import Move, Span, moves_between
from jobsync.runtime.clock import boot_sec
from jobsync.web import dashboard
from jobsync.web.drawing import is_same
from jobsync.web.poller import Poller
from jobsync.web.strip import COLUMNS, bands, coarse
from tests.api.jobs import eventually, query, settings
from tests.docs.pages import ROOT
from tests.servers import PrivateServer

EVIL = "<script>alert('x')</script>&\"'"
TOKEN = "open sesame"
TEMPLATES = ROOT / "src" / "jobsync" / "web" / "templates"
HERE = {"origin": "http://testserver"}


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return settings(server_dsn, prefix)


@pytest.fixture
def fleet(config: CoordinationConfig) -> Iterator[Job]:
    """Give a node of a fleet of two, one of which has a name with markup in it."""
    with Job("first", coordination_config=config) as job, Job(EVIL, coordination_config=config):
        eventually(lambda: len(job.my_tokens) == 50)
        yield job


def client_of(config: CoordinationConfig, **options: Any) -> TestClient:
    return TestClient(dashboard(config, **options))


def buttons(text: str) -> list[Any]:
    """Give what the buttons of a page would ask for."""
    return [json.loads(html.unescape(found)) for _, found in re.findall(r'name="act" value=(["\'])(.*?)\1', text)]


def log_in(client: TestClient) -> str:
    """Open a session, and give the mark of its forms."""
    reply = client.post("/login", data={"token": TOKEN}, headers=HERE)
    assert reply.status_code == 200
    return str(re.findall(r'name="mark" value="(\w+)"', reply.text)[0])


# --- what is shown ---------------------------------------------------------------------------------


def test_the_fleet_is_shown_and_nothing_in_it_is_markup(config: CoordinationConfig, fleet: Job) -> None:
    fleet.register_lock(EVIL, ["nobody%", "fir%"], reason=EVIL)
    with client_of(config) as client:
        page = client.get("/")
        assert "first" in page.text
        assert page.text.count('<path class="c') == 4  # Two nodes, planned and held.
        pages = [page, client.get("/locks"), client.get("/find", params={"key": EVIL})]
        pages += [client.get("/jobs", params={"kind": EVIL}), client.get("/job", params={"id": EVIL})]
        for each in pages:
            assert "<script>alert" not in each.text
            assert "&lt;script&gt;alert" in each.text
    assert "fallback 2" in pages[1].text
    assert "locked: pattern 2 of 2" in pages[2].text
    assert pages[4].status_code == 404


def test_the_queue_shows_what_failed_with_its_traceback(config: CoordinationConfig) -> None:
    worker = ProcessingWorker(config, worker_id="w")

    @worker.handles("mail")
    def mail(job: Any) -> None:
        raise ValueError(EVIL)

    with JobQueue(config) as queue, worker, client_of(config) as client:
        number = queue.enqueue_many([NewJob("mail", {"to": EVIL}, max_attempts=1)])[0]
        queue.enqueue("unknown", job_id="mine")
        eventually(lambda: queue.counts()["failed"] == 1)
        page = client.get("/queue").text
        assert "ValueError: &lt;script&gt;" in page
        assert "unknown" in page
        job = client.get("/job", params={"id": str(number)}).text
        assert "Attempt 1 failed" in job
        assert "Traceback" in job
        assert "<script>alert" not in page + job
        assert "unknown" in client.get("/job", params={"id": "mine"}).text
        listed = client.get("/jobs", params={"status": "failed"}).text
        assert (f"#{number}" in listed, "mine" in listed) == (True, False)
        assert client.get("/jobs", params={"status": "lost"}).text.count("notice bad") == 1


def test_a_huge_search_is_refused_in_one_line(config: CoordinationConfig, fleet: Job) -> None:
    with client_of(config) as client:
        reply = client.get("/find", params={"key": "x" * 50_000})
    assert (reply.status_code, "at most 2,000" in reply.text, len(reply.text) < 10_000) == (200, True, True)


def test_programs_get_figures_and_metrics(config: CoordinationConfig, fleet: Job) -> None:
    with client_of(config) as client:
        found = client.get("/fleet.json").json()
        assert (found["active_nodes"], found["tokens_unowned"], found["nodes"]["first"]) == (2, 0, 50)
        assert f'jobsync_active_nodes{{fleet="{config.prefix}"}} 2.0' in client.get("/metrics").text


def test_it_mounts_under_a_prefix(config: CoordinationConfig, fleet: Job) -> None:
    app = FastAPI()
    app.mount("/ops/fleet", dashboard(config, auth=TOKEN))
    with TestClient(app) as client:
        page = client.get("/ops/fleet/").text
        for address in re.findall(r'(?:href|src|action)="([^"]+)"', page):
            assert not address.startswith(("/", "http")), address
        for name in ("app.css", "app.js", "mark.svg"):
            assert client.get(f"/ops/fleet/assets/{name}").status_code == 200
        assert client.get("/ops/fleet/queue").status_code == 200
        reply = client.post("/ops/fleet/login", data={"token": TOKEN}, headers=HERE, follow_redirects=False)
        assert "Path=/ops/fleet" in reply.headers["set-cookie"]
        assert client.get("/ops/fleet/assets/../app.py").status_code == 404


def test_browsers_are_told_to_run_nothing_else(config: CoordinationConfig) -> None:
    with client_of(config, allowed_hosts=("testserver",)) as client:
        policy = client.get("/login").headers["content-security-policy"]
        assert client.get("/login", headers={"host": "evil.example"}).status_code == 400
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.name)
def test_templates_have_nothing_inline_and_mark_nothing_safe_but_parts(path: Any) -> None:
    text = path.read_text()
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:|https?://", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert all(found.startswith("parts.") for found in re.findall(r"\{\{ ([^}]*)\|\s*safe", text))


# --- what is refused -------------------------------------------------------------------------------


def test_without_a_token_everything_is_read_only(config: CoordinationConfig, fleet: Job) -> None:
    with client_of(config) as client:
        assert buttons(client.get("/").text) == []
        assert "Log in" not in client.get("/").text
        assert client.post("/do", data={"act": '["freeze"]', "minutes": "5"}, headers=HERE).status_code == 403
        assert client.post("/login", data={"token": ""}, headers=HERE).status_code == 200
        assert client.post("/do", data={"act": '["freeze"]'}, headers=HERE).status_code == 403


def test_who_has_the_token_may_steer_and_it_is_recorded(
    config: CoordinationConfig, fleet: Job, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="jobsync.web")
    with client_of(config, auth=TOKEN) as client:
        assert buttons(client.get("/").text) == []
        mark = log_in(client)
        assert ["drain", EVIL] in buttons(client.get("/").text)
        reply = client.post("/do", data={"mark": mark, "act": json.dumps(["drain", EVIL])}, headers=HERE)
        assert "hands over all it has" in reply.text
        eventually(lambda: len(fleet.my_tokens) == 100)
        page = client.get("/")
        assert "draining" in page.text
        assert ["resume", EVIL] in buttons(page.text)
        (asked_by,) = query(str(config.dsn), f"select asked_by from {config.prefix}steering")[0]
        assert asked_by == "dashboard testclient"
        data = {"mark": mark, "act": json.dumps(["resume", EVIL])}
        assert "Resumed node" in client.post("/do", data=data, headers=HERE).text
        data = {"mark": mark, "act": '["freeze"]', "minutes": "10"}
        assert "is frozen" in client.post("/do", data=data, headers=HERE).text
        data = {"mark": mark, "act": '["drain", "nobody"]'}
        assert "there is no node" in html.unescape(client.post("/do", data=data, headers=HERE).text)
    told = [record.getMessage() for record in caplog.records if "dashboard:" in record.getMessage()]
    assert any("'drain'" in text and "testclient" in text for text in told)


def test_forged_requests_change_nothing(
    config: CoordinationConfig, fleet: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsync.web.app.WRONG_TOKEN_SEC", 0)
    freeze = {"act": '["freeze"]', "minutes": "10"}
    with client_of(config, auth=TOKEN) as client:
        assert client.post("/login", data={"token": "guess"}, headers=HERE).status_code == 403
        assert client.post("/do", data=freeze, headers=HERE).status_code == 403  # No session.
        mark = log_in(client)
        elsewhere = {"origin": "https://evil.example"}
        for data, headers in (
            (freeze, HERE),  # No mark.
            (freeze | {"mark": "0" * 64}, HERE),
            (freeze | {"mark": mark}, elsewhere),
            (freeze | {"mark": mark}, {"origin": "null"}),
            (freeze | {"mark": mark}, {}),  # A browser that says nothing of where it comes from.
            (freeze, {"authorization": "Bearer guess"}),
        ):
            assert client.post("/do", data=data, headers=headers).status_code == 403
        client.cookies.clear()
        client.cookies.set("jobsync_session", f"99999999999.ab.{'0' * 64}")
        assert client.post("/do", data=freeze | {"mark": mark}, headers=HERE).status_code == 403
        assert query(str(config.dsn), f"select count(*) from {config.prefix}steering") == [(0,)]
        client.cookies.clear()
        bearer = {"authorization": f"Bearer {TOKEN}", "accept": "application/json"}
        assert client.post("/do", data=freeze, headers=bearer).json()["ok"]
        assert client.post("/do", data={"act": '["drop"]'}, headers=bearer).status_code == 409
        assert client.post("/do", data={"act": "{"}, headers=bearer).status_code == 400


def test_strange_requests_are_answered_and_do_nothing(config: CoordinationConfig, fleet: Job) -> None:
    app = FastAPI()
    app.mount("/ops/fleet", dashboard(config, auth=TOKEN, allowed_hosts=("testserver",)))
    with TestClient(app) as client:
        for method, path in (("GET", "do"), ("PUT", "do"), ("GET", "logout"), ("POST", "events"), ("DELETE", "jobs")):
            assert client.request(method, f"/ops/fleet/{path}").status_code == 405, path
        for path in (
            "..%2fapp.py",
            "%2e%2e/app.py",
            "....//app.py",
            "/etc/passwd",
            "app.css%00",
            "app.css/..%2f..%2fapp.py",
        ):
            assert client.get(f"/ops/fleet/assets/{path}").status_code in {404, 405}, path
        rebound = {"host": "evil.example", "origin": "http://evil.example"}  # A name that suddenly leads here.
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/ops/fleet/", headers=rebound).status_code == 400
        assert client.post("/ops/fleet/do", data={"act": '["freeze"]'}, headers=rebound | bearer).status_code == 400
        for act, status in (
            (["drain", "nobody of this name"], 409),
            (["drain", 5], 409),
            (["drain", "x" * 5000], 409),
            (["retry", 10**30], 409),
            (["retry", True], 409),
            (["freeze"], 409),  # For how long?
            ({"drain": "first"}, 400),
            ([], 400),
        ):
            json_too = bearer | {"accept": "application/json"}
            reply = client.post("/ops/fleet/do", data={"act": json.dumps(act)}, headers=json_too)
            assert reply.status_code == status, act
        assert client.post("/ops/fleet/do", content=b"act=" + b"x" * 100_000, headers=bearer).status_code == 400
        for back in (
            "//evil.example/",
            "https://evil.example",
            "javascript:alert(1)",
            "jobs/../../..//evil",
            "queue\r\nX: y",
        ):
            data = {"act": '["resume", "first"]', "back": back}
            reply = client.post("/ops/fleet/do", data=data, headers=bearer, follow_redirects=False)
            assert (reply.status_code, reply.headers["location"][:7]) == (303, "./?said"), back
    assert query(str(config.dsn), f"select count(*) from {config.prefix}steering") == [(0,)]


def test_jobs_are_retried_and_cancelled(config: CoordinationConfig) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}", "accept": "application/json"}
    with JobQueue(config) as queue, client_of(config, auth=TOKEN) as client:
        numbers = queue.enqueue_many([("a", None)] * 3 + [("b", None)])

        def do(*act: Any) -> str:
            return str(client.post("/do", data={"act": json.dumps(act)}, headers=bearer).json()["said"])

        assert do("cancel", numbers[0]) == f"Job {numbers[0]} is cancelled."
        assert do("cancel all", None, "a", None) == "2 jobs are cancelled."
        assert do("retry", numbers[0]) == f"Job {numbers[0]} will run again."
        assert do("retry all", "cancelled", None, None) == "2 jobs will run again."
        assert do("pause", "default") == "Queue default is paused."
        assert queue.pauses()[0].paused_by == "dashboard testclient"
        assert "paused" in client.get("/queue").text
        assert do("run", "default") == "Queue default runs again."
        assert queue.counts()["pending"] == 4


# --- live ------------------------------------------------------------------------------------------


def stream_of(application: Starlette) -> Any:
    return application.state.dashboard._stream("fleet", may_act=False)


def news_in(event: str) -> dict[str, Any]:
    assert event.startswith("data: ")
    found: dict[str, Any] = json.loads(event.removeprefix("data: "))
    return found


def test_many_viewers_share_one_round_a_second(config: CoordinationConfig, fleet: Job) -> None:
    application = dashboard(config)
    poller: Poller = application.state.dashboard.poller

    async def view() -> list[dict[str, Any]]:
        stream = stream_of(application)
        assert await anext(stream) == "retry: 2000\n\n"
        seen = [news_in(await anext(stream)) for _ in range(3)]
        await stream.aclose()
        return seen

    async def all_of_them() -> list[list[dict[str, Any]]]:
        return list(await asyncio.gather(*(view() for _ in range(10))))

    began_sec = boot_sec()
    everything = asyncio.run(all_of_them())
    assert poller.rounds <= boot_sec() - began_sec + 2
    for seen in everything:
        assert {"nodes", "strip", "summary"} <= set(seen[0]["parts"])
        # What did not change is not sent again: no rebalance happened, and ages run on by themselves.
        assert not {"strip", "history", "summary"} & {name for news in seen[1:] for name in news["parts"]}


def test_a_node_that_leaves_is_told_to_who_looks(config: CoordinationConfig, fleet: Job) -> None:
    application = dashboard(config)

    async def watch() -> str:
        stream = stream_of(application)
        await anext(stream)
        await anext(stream)
        third = Job("third", coordination_config=config)
        await asyncio.to_thread(third.__enter__)
        try:
            while True:
                event: str = await asyncio.wait_for(anext(stream), 30)
                if event.startswith("data:") and ">third<" in news_in(event)["parts"].get("nodes", ""):
                    return event
        finally:
            await stream.aclose()
            await asyncio.to_thread(third.__exit__, None, None, None)

    assert asyncio.run(watch())


def test_nobody_looks_and_nothing_is_asked(config: CoordinationConfig, fleet: Job, monkeypatch: Any) -> None:
    monkeypatch.setattr("jobsync.web.poller.LINGER_SEC", 0.0)
    application = dashboard(config)
    poller: Poller = application.state.dashboard.poller
    assert poller.rounds == 0
    with TestClient(application) as client:
        client.get("/")
    eventually(lambda: poller._thread is None, "the end of the poller")
    assert poller.rounds >= 1


def test_a_database_that_is_away_is_told_and_comes_back(private_server: PrivateServer, prefix: str) -> None:
    quick = settings(private_server.dsn, prefix)
    with Job("w", coordination_config=quick), client_of(quick) as client:
        assert "where they belong" in client.get("/").text
        private_server.kill()
        eventually(lambda: "does not answer" in client.get("/").text, limit_sec=30)
        page = client.get("/").text
        assert "how it was" in page
        assert ">w<" in page
        assert client.get("/fleet.json").status_code == 503
        assert f'jobsync_up{{fleet="{prefix}"}} 0.0' in client.get("/metrics").text
        for path in ("/locks", "/jobs", "/find?key=a", "/queue"):
            assert client.get(path).status_code == 200
        private_server.start()
        eventually(lambda: "does not answer" not in client.get("/").text, limit_sec=40)


def test_a_database_without_tables_says_what_to_do(config: CoordinationConfig) -> None:
    with client_of(config) as client:
        for path in ("/", "/queue", "/jobs", "/job?id=1", "/locks", "/find?key=a"):
            page = client.get(path).text
            assert "jobsync migrate" in page
            assert "The tables do not fit" in page
    # Nothing that is looked at makes them.
    assert query(str(config.dsn), f"select 1 from pg_class where relname like '{config.prefix}%'") == []


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jobsync.web.app", raising=False)
    monkeypatch.delattr("jobsync.web.app", raising=False)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(ExtraMissing, match=r"jobsync\[web\]"):
        dashboard(CoordinationConfig())


# --- drawn -----------------------------------------------------------------------------------------


def test_moves_are_found_from_ranges() -> None:
    held = (Span("a", 0, 50), Span("dead", 60, 100))
    wanted = (Span("a", 0, 40), Span("b", 40, 100))
    assert moves_between(held, wanted, frozenset("ab")) == (
        Move("dead", "b", 40, 60, "waits for a fence"),
        Move("a", "b", 10, 40, "being handed over"),
        Move(None, "b", 10, 50, "to be taken"),
    )
    assert moves_between(held[:1], (), frozenset("a")) == (Move("a", None, 50, 0, "not placed"),)


def test_the_strip_goes_by_the_pieces() -> None:
    one, two = bands(
        (Span("a", 0, 250_000), Span("b", 250_000, 999_999), Span("a", 999_999, 1_000_000)), 1_000_000, 100
    )
    assert (one.path, one.tokens) == ("M0 0h250v100h-250zM1000 0h0.15v100h-0.15z", 250_001)
    assert two.path == "M250 0h750v100h-750z"
    pieces = tuple(Span(f"n{k % 7}", k * 50, k * 50 + 50) for k in range(20_000))
    drawn = coarse(pieces, 1_000_000)
    assert len(drawn) <= COLUMNS
    assert sum(span.size for span in drawn) == 1_000_000
    assert sum(band.tokens for band in bands(pieces, 1_000_000, 100)) == 1_000_000


def test_times_that_ran_on_are_no_news() -> None:
    text = '<td><time data-at="1.0">{}</time></td>'
    assert is_same(text.format("3 s ago"), text.format("4 s ago"))
    assert not is_same(text.format("3 s ago"), "<td></td>")
