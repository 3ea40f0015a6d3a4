"""The pages about the queue, played: each does what it says."""

from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from jobsync import CoordinationConfig, JobQueue
from jobsync.core.queue.policy import RetryPolicy
from jobsync.core.queue.states import TRANSITIONS
from tests.docs.pages import DOCS, blocks_of, cells
from tests.docs.stage import Stage


def of(stage: Stage) -> JobQueue:
    return JobQueue(CoordinationConfig(dsn=stage.dsn))


def ended(stage: Stage, *counts: tuple[str, int]) -> bool:
    with of(stage) as queue:
        found = queue.counts()
        return all(found[status] >= least for status, least in counts)


def test_the_start(stage: Stage) -> None:
    stage.rows("create table photo (id integer, name text)")
    made: list[int] = []

    @contextmanager
    def connect() -> Any:
        with psycopg.connect(stage.dsn) as conn:
            yield conn

    async def send(payload: object) -> None:
        return None

    def make_thumbnail(photo: int) -> int:
        made.append(photo)
        return 7

    stage.play(
        "guide/queue.md",
        until=lambda: ended(stage, ("done", 1000)),
        connect=connect,
        make_thumbnail=make_thumbnail,
        send=send,
    )
    assert set(range(17, 1018)) | {2001} <= set(made)
    assert stage.rows("select id from photo") == [(2001,)]
    assert stage.rows("select result, progress_message from sync_job where payload = '{\"photo\": 17}'") == [
        ({"bytes": 7}, "half way")
    ]
    assert "True" in stage.told


def test_the_module_of_the_start_is_a_worker(stage: Stage) -> None:
    (module,) = [block for block in blocks_of("guide/queue.md") if block.title == "photos.py"]
    names: dict[str, Any] = {}
    exec(compile(module.text, str(module), "exec"), names)
    assert names["worker"].get_status().max_concurrent_jobs == 4


def test_what_can_run_twice(stage: Stage) -> None:
    stage.rows("create table payout (id integer, amount integer)")
    loaded: list[str] = []
    stage.play(
        "guide/queue-reliability.md",
        until=lambda: ended(stage, ("done", 3)),
        parts_of=lambda file: [[file, part] for part in range(4)],
        load=loaded.extend,
        compute=lambda payload: payload["cents"],
    )
    assert stage.rows("select * from payout") == [(1, 250)]
    assert stage.rows("select result from sync_job where kind = 'count'") == [({"payouts": 0},)]
    assert len(loaded) == 8


def test_retries(stage: Stage) -> None:
    stage.play("guide/queue-retries.md", until=lambda: ended(stage, ("cancelled", 1)), bank=lambda _: "account closed")
    assert stage.told[0] == "cancelled 1"


def test_the_waits_are_those_of_the_policy() -> None:
    text = (DOCS / "guide/queue-retries.md").read_text(encoding="utf-8").splitlines()
    head, _, *rows = (
        cells(line) for line in text if line.startswith(("| after failure", "|---|---|---|", "| `RetryPolicy("))
    )
    failures = [int(cell) for cell in head[1:]]
    assert len(rows) == 2
    for policy, *waits in rows:
        found = eval(policy.strip("`"), {"RetryPolicy": RetryPolicy})
        assert [f"{found.wait_sec(count, 0.5):,.0f} s" for count in failures] == waits


def test_affinity(stage: Stage) -> None:
    names = stage.play("guide/queue-affinity.md", until=lambda: ended(stage, ("done", 3)))
    assert names["books"] == {"account-7": ["open", "deposit", "close"]}


def test_limits_priorities_delays(stage: Stage) -> None:
    stage.play("guide/queue-limits-and-priorities.md")
    assert stage.rows("select priority from sync_job where kind = 'mail' order by priority desc") == [(10,), (-10,)]
    assert stage.rows("select count(*) from sync_job where kind = 'remind' and run_at > now()") == [(2,)]
    assert "'report'" in stage.told[0]
    assert "default" in stage.told[1]
    assert stage.rows("select 1 from sync_job_pause") == []


def test_periodic(stage: Stage) -> None:
    pytest.importorskip("cronsim")
    stage.play("guide/queue-periodic.md", delete_old_carts=lambda: None)
    assert len(stage.told) == 2
    assert "nightly report" in "".join(stage.told)
    assert stage.rows("select name from sync_job_periodic") == [("nightly report",)]


def test_coming_from_elsewhere(stage: Stage) -> None:
    stage.rows("create table parcel (id integer)")
    stage.play("guide/coming-from.md", until=lambda: ended(stage, ("done", 2)))
    assert stage.told == ["shipped 17"]
    assert stage.rows("select * from parcel") == [(17,)]


def test_the_pictures_are_up_to_date() -> None:
    names: dict[str, Any] = {"__name__": "pictures", "__file__": str(DOCS / "make_pictures.py")}
    script = DOCS / "make_pictures.py"
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), names)
    for name, picture in names["pictures"]().items():
        assert (DOCS / "assets" / name).read_text(encoding="utf-8") == picture, "run python docs/make_pictures.py"
    drawn = names["states_picture"]()
    assert [each.cause for each in TRANSITIONS if each.cause not in drawn] == []
