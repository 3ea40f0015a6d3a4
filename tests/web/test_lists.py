"""Jobs, one job and locks on the live page: kept fresh, and read seldom however many look at whatever."""

import asyncio
import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from jobsync import CoordinationConfig, InvalidArgument, JobQueue
from jobsync.api.cluster import migrate, open_cluster
from jobsync.web import dashboard
from jobsync.web.drawing import Drawing
from jobsync.web.kept import MOST_ANSWERS, Answers, KeptCluster
from jobsync.web.lists import MOST_KEPT, Lists, asked_of
from jobsync.web.pages import Pages
from jobsync.web.poller import EVERY_SEC, Poller, Snapshot
from tests.api.jobs import settings
from tests.cli.conftest import TWO_NODES
from tests.queue.hands import Hands

Condition = Callable[[str], bool]


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    """Give a fleet that stands still: two nodes that are rows alone, and the queue's tables."""
    config = settings(server_dsn, prefix)
    migrate(config)
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(TWO_NODES.replace(" t_", f" {prefix}").encode())
    return config


@pytest.fixture
def application(config: CoordinationConfig) -> Starlette:
    application = dashboard(config)
    application.state.dashboard.poller._every_sec = 0.05
    return application


async def part(application: Starlette, page: str, query: dict[str, str], until: Condition) -> str:
    """Look at a page's events until one of its list is as it should be; give that."""
    stream = application.state.dashboard._stream(page, may_act=False, asked=asked_of(page, query))
    try:
        async with asyncio.timeout(60):
            async for event in stream:
                if event.startswith("data: "):
                    html: str = json.loads(event.removeprefix("data: "))["parts"].get(page, "")
                    if until(html):
                        return html
    finally:
        await stream.aclose()
    raise AssertionError("the events ended")


def test_a_list_of_jobs_follows_the_queue_by_its_filter(application: Starlette, config: CoordinationConfig) -> None:
    async def watch() -> None:
        with JobQueue(config) as queue:
            first = queue.enqueue("mail")
            page = asyncio.create_task(part(application, "jobs", {"status": "cancelled"}, lambda h: f"#{first}<" in h))
            other = asyncio.create_task(part(application, "jobs", {"kind": "mail"}, lambda h: "cancelled" in h))
            nothing = await part(application, "jobs", {"kind": "post"}, lambda html: html != "")
            assert "No job matches" in nothing
            await asyncio.to_thread(queue.cancel, first)
            await asyncio.gather(page, other)

    asyncio.run(watch())


def test_one_job_and_its_attempts_follow(application: Starlette, config: CoordinationConfig) -> None:
    async def watch() -> None:
        with JobQueue(config) as queue:
            number = queue.enqueue("mail", {"to": "<i>"})
            seen = asyncio.create_task(part(application, "job", {"id": str(number)}, lambda html: "Cancelled" in html))
            html = await part(application, "job", {"id": str(number)}, lambda html: "pending" in html)
            assert "&lt;i&gt;" in html
            await asyncio.to_thread(queue.cancel, number)
            await seen

    asyncio.run(watch())


def test_a_job_shows_who_took_it_and_how_long_it_was_there(
    config: CoordinationConfig, server_dsn: str, prefix: str
) -> None:
    with JobQueue(config) as queue:
        number = queue.enqueue("mail")
        hands = Hands(queue, server_dsn, prefix)
        for outcome, error in (("retry", "no post"), ("done", None)):
            [job] = hands.take()
            queue.release_lease(number, "w", outcome, error=error, attempt=job.attempt)
    with TestClient(dashboard(config), base_url="http://localhost") as client:
        html = re.sub(r"\d\d:\d\d:\d\d|\d+\.\d s", "N", client.get(f"/job?id={number}").text)
    for step in (1, 2):
        assert re.search(rf"<b>Attempt {step} taken</b> <span class=.sub.>.* N UTC · w</span>", html)
        assert html.count(f"Attempt {step} taken") == 1
    assert re.search(r"<b>Attempt 1 failed</b> <span class=.sub.>.* N UTC · w · after N</span>", html)
    assert re.search(r"<b>Done</b> <span class=.sub.>.* N UTC · after N</span>", html)


def test_locks_follow(application: Starlette, config: CoordinationConfig) -> None:
    async def watch() -> None:
        seen = asyncio.create_task(part(application, "locks", {"like": "bills"}, lambda html: "more-bills" in html))
        await part(application, "locks", {"like": ""}, lambda html: "No lock." in html)
        with open_cluster(config) as cluster:
            await asyncio.to_thread(cluster.add_lock, "letters", ["alpha"])
            await asyncio.to_thread(cluster.add_lock, "more-bills", ["beta"])
        assert "letters" not in await seen

    asyncio.run(watch())


def test_a_page_names_its_events_with_what_is_asked(application: Starlette) -> None:
    with TestClient(application) as client:
        page = client.get("/jobs", params={"kind": "a&b", "status": "failed", "said": "x"}).text
        assert 'data-events="events?page=jobs&amp;status=failed&amp;kind=a%26b"' in page
        assert 'data-events="events?page=other"' in client.get("/find").text
        assert client.get("/events", params={"page": "nonsense"}).status_code == 404


def test_rebalances_tell_how_long_tokens_were_without_an_owner(application: Starlette) -> None:
    with TestClient(application) as client:
        lines = client.get("/").text.splitlines()
    joined, began = (line for line in lines if "<td>join</td>" in line or "<td>start</td>" in line)
    assert 'data-l="uncovered" class="n">3 ms</td>' in joined
    assert 'data-l="uncovered" class="n"></td>' in began, "nobody had them before"


def test_moves_tell_their_own_age(application: Starlette, config: CoordinationConfig) -> None:
    with psycopg.connect(str(config.dsn), autocommit=True) as conn:
        conn.execute(f"delete from {config.prefix}grant where node = 'beta'".encode())
        conn.execute(
            f"insert into {config.prefix}handover (tokens, from_node, uncovered_at) "
            "values ('{[50,100)}', 'beta', clock_timestamp() - interval '5 min')".encode()
        )
    with TestClient(application) as client:
        (row,) = (line for line in client.get("/").text.splitlines() if "to be taken" in line)
    assert ">5 min</time>" in row, "not that of the latest rebalance"


class Desk:
    """Counts what is read, and whether it goes well."""

    def __init__(self) -> None:
        self.read: list[str | None] = []
        self.is_away = False

    def locks(self, like: str | None) -> tuple[str, ...]:
        self.read.append(like)
        if self.is_away:
            raise InvalidArgument("away")
        return ()


@pytest.mark.parametrize("address", ["/jobs", "/job?id=17", "/locks"])
def test_of_what_could_not_be_read_the_page_does_not_say_that_it_is_not_there(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr("jobsync.web.lists.Lists._read", lambda *asked: read.append(asked))
    reply = TestClient(dashboard(CoordinationConfig(dsn="host=127.0.0.1 port=1"))).get(address)
    assert reply.status_code == 200
    assert "The database does not answer." in reply.text
    assert not [word for word in ("There is no job", "No job matches", "No lock") if word in reply.text]
    assert not read, "nobody waits a second time for a database that is away"


def test_one_list_is_read_at_a_time_and_each_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("jobsync.web.lists.boot_sec", lambda: clock[0])
    desk: Any = Desk()
    lists = Lists(desk)
    asked = {name: asked_of("locks", {"like": name}) for name in "abc"}

    async def all_look() -> None:
        # Each asks twice: the second time nobody is reading, so that it may be its turn.
        for _ in range(2):
            for each in asked.values():
                await asyncio.gather(*(lists.latest(each, is_away=False) for _ in range(10)))

    async def look() -> None:
        for _ in range(30):
            await all_look()
            clock[0] += EVERY_SEC / 3
        assert len(desk.read) == 10  # One a second, of thirty viewers that look three times a second.
        assert {name: desk.read.count(name) for name in "abc"} == {"a": 4, "b": 3, "c": 3}
        await lists.latest(asked["a"], is_away=True)
        assert len(desk.read) == 10
        desk.is_away = True
        found = await lists.now(asked["c"])  # Whoever loads the page does not wait for a turn.
        assert (desk.read[-1], found.error, found.given) == ("c", "away", {"locks": (), "more": -500})

    asyncio.run(look())


def test_failed_jobs_that_could_not_be_read_are_asked_for_again() -> None:
    """The number of failures stands still, and so the page would show the error until the next job fails."""
    answers: list[Any] = [InvalidArgument("away"), [], InvalidArgument("away again"), []]

    class Failing:
        def failed(self) -> list[Any]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return list(answer)

        def steadies(self) -> tuple[list[Any], dict[str, Any]]:
            return [], {}

    desk: Any = Failing()
    pages = Pages(Poller(CoordinationConfig()), Drawing(), desk)
    view: Any = SimpleNamespace(queue=SimpleNamespace(failed=3, failed_a_minute=0))

    async def look() -> list[str | None]:
        seen = []
        for number in range(1, 5):
            if number == 3:
                view.queue.failed += 1
            await pages._read_jobs(Snapshot(number, view, None, 0.0))
            seen.append(pages._failed[2])
        return seen

    assert asyncio.run(look()) == ["away", None, "away again", None]


def counted_statements(config: CoordinationConfig, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give what is asked of the tables from now on, as it grows."""
    asked: list[str] = []
    execute = psycopg.Cursor.execute

    def counted(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        if config.prefix in str(query):  # Others' pollers may still be at work in this process.
            asked.append(str(query))
        return execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)
    return asked


def test_ten_viewers_cost_the_server_what_one_does(
    application: Starlette, config: CoordinationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted_statements(config, monkeypatch)
    poller = application.state.dashboard.poller

    async def view(rounds: int) -> None:
        stream = application.state.dashboard._stream("fleet", may_act=False)
        async for _ in stream:
            if poller.rounds >= rounds:
                break
        await stream.aclose()

    async def statements_a_round(viewers: int) -> float:
        async with asyncio.timeout(60):
            await view(poller.rounds + 2)
            first, before = poller.rounds, len(asked)
            await asyncio.gather(*(view(first + 20) for _ in range(viewers)))
            rounds: int = poller.rounds - first
            return (len(asked) - before) / rounds

    async def compare() -> None:
        one = await statements_a_round(1)
        ten = await statements_a_round(10)
        assert 2.0 <= one <= 2.2
        assert ten <= 1.05 * one

    asyncio.run(compare())


def test_many_who_load_pages_at_once_cost_what_one_does(
    config: CoordinationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("jobsync.web.lists.boot_sec", lambda: clock[0])
    monkeypatch.setattr("jobsync.web.kept.boot_sec", lambda: clock[0])
    opened: list[object] = []

    def opening(given: CoordinationConfig) -> Any:
        opened.append(given)
        return open_cluster(given)

    monkeypatch.setattr("jobsync.web.kept.open_cluster", opening)
    asked = counted_statements(config, monkeypatch)
    list_jobs = JobQueue.list_jobs

    def listing(self: JobQueue, **given: Any) -> Any:  # The queue speaks without a cursor: its one question is counted.
        asked.append("list jobs")
        return list_jobs(self, **given)

    monkeypatch.setattr(JobQueue, "list_jobs", listing)
    application = dashboard(config, auth="sesame")
    application.state.dashboard.poller._every_sec = 3600.0  # What is counted is what the pages ask beside it.

    async def statements(client: httpx2.AsyncClient, address: str, viewers: int) -> int:
        before = len(asked)
        replies = await asyncio.gather(*(client.get(address) for _ in range(viewers)))
        assert {reply.status_code for reply in replies} == {200}
        clock[0] += 0.5 * EVERY_SEC
        return len(asked) - before

    async def load() -> None:
        transport = httpx2.ASGITransport(application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            await statements(client, "/", 1)
            for address in ("/find?key=a", "/jobs?kind=a", "/locks?like=a"):
                await statements(client, address, 1)  # Whoever comes first may have to connect.
                clock[0] += EVERY_SEC
                one = await statements(client, address, 1)
                clock[0] += EVERY_SEC
                assert (await statements(client, address, 40), one > 0) == (one, True), address
                assert await statements(client, address, 5) == 0, f"{address}: nothing is half a second old"
            assert await statements(client, "/", 40) == 0
            assert len(opened) == 1, "one connection for all who look closely"
            await statements(client, "/jobs?kind=a", 1)
            headers = {"authorization": "Bearer sesame", "accept": "application/json"}
            await client.post("/do", data={"act": '["pause", "default"]'}, headers=headers)
            before = len(asked)
            await client.get("/jobs?kind=a")
            assert "list jobs" in asked[before:], "what was changed is seen at once"

    asyncio.run(load())
    application.state.dashboard._desk.close()


def test_a_kept_connection_that_was_cut_is_replaced(config: CoordinationConfig) -> None:
    kept = KeptCluster(config)
    pid = kept.ask(lambda cluster: cluster.execute("select pg_backend_pid()"))[0][0]
    assert kept.ask(lambda cluster: cluster.execute("select pg_backend_pid()")) == [(pid,)]
    with psycopg.connect(str(config.dsn), autocommit=True) as conn:
        conn.execute("select pg_terminate_backend(%s, 10000)", (pid,))
    assert kept.ask(lambda cluster: cluster.execute("select pg_backend_pid()"))[0][0] != pid
    with pytest.raises(InvalidArgument):
        kept.ask(lambda cluster: cluster.explain("x" * 10_000))
    kept.close()
    kept.close()


def test_what_is_kept_for_those_who_ask_is_bounded() -> None:
    desk: Any = Desk()
    lists, answers = Lists(desk), Answers(str.upper)

    async def ask() -> None:
        for number in range(MOST_KEPT + 50):
            await lists.now(asked_of("locks", {"like": str(number)}))
            assert await answers.to(f"k{number}") == (f"K{number}", None)

    asyncio.run(ask())
    assert (len(lists._kept), len(answers._known)) == (MOST_KEPT, MOST_ANSWERS)
