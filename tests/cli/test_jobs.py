"""`jobsync jobs`: people and scripts look at the queue and help its jobs."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO

import psycopg
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobsync import CoordinationConfig, JobQueue, NewJob
from jobsync.cli import jobs_view
from jobsync.cli.app import app
from tests.queue.hands import Hands

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no [such] photo'


@pytest.fixture
def queue(server_dsn: str, prefix: str) -> Iterator[JobQueue]:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        yield queue


def call(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; give its exit status, its output, and its errors."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


class Command:
    """`jobsync jobs` on this test's queue."""

    def __init__(self, dsn: str, prefix: str) -> None:
        self._where = ("--dsn", dsn, "--appname", prefix)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return call("jobs", *arguments, *self._where)


@pytest.fixture
def jobs(server_dsn: str, prefix: str) -> Command:
    return Command(server_dsn, prefix)


@pytest.fixture
def failed(queue: JobQueue, server_dsn: str, prefix: str) -> int:
    """Give a job that failed, in the hands of an operator."""
    failed = queue.enqueue("resize", {"photo": 1}, job_id="photo-1")
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(
            f"update {prefix}job set status = 'failed', last_error = %s where id = %s".encode(), (TRACEBACK, failed)
        )
    return failed


def test_jobs_are_listed_for_people_newest_first(jobs: Command, queue: JobQueue, failed: int) -> None:
    newer = queue.enqueue("mail", queue="slow")
    status, out, _ = jobs("list")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines[1:3]] == [str(newer), str(failed)]
    assert "slow: mail" in lines[1]
    assert "ValueError: no [such] photo" in lines[2]
    assert lines[-1] == "1 pending, 1 failed"


def test_jobs_are_listed_for_programs(jobs: Command, queue: JobQueue) -> None:
    ids = queue.enqueue_many([NewJob("a", {"n": number}) for number in range(5)])
    status, out, _ = jobs("list", "--json", "--limit", "2")
    found = json.loads(out)
    assert status == 0
    assert [(job["id"], job["payload"], job["status"]) for job in found] == [
        (ids[4], {"n": 4}, "pending"),
        (ids[3], {"n": 3}, "pending"),
    ]


def test_filters_choose(jobs: Command, queue: JobQueue, failed: int) -> None:
    other = queue.enqueue("mail", queue="slow")

    def found(*options: str) -> list[int]:
        return [job["id"] for job in json.loads(jobs("list", "--json", *options)[1])]

    assert found("--status", "failed") == [failed]
    assert found("--kind", "mail") == found("--queue", "slow") == [other]
    assert jobs("list", "--kind", "mail", "--status", "failed") == (1, "", "no jobs of status 'failed', kind 'mail'\n")
    assert jobs("list", "--kind", "mail", "--status", "failed", "--json") == (1, "[]\n", "")


def test_one_job_is_shown_with_all_that_happened(jobs: Command, failed: int) -> None:
    for name in (str(failed), "photo-1"):
        status, out, _ = jobs("show", name)
        assert status == 0
        assert f"job {failed} 'photo-1'  resize  failed" in out
        assert '{"photo": 1}' in out
        assert "ValueError: no [such] photo" in out
        assert 'File "x.py", line 1' in out


def test_the_timeline_tells_who_took_a_job_and_how_long_it_was_there(
    jobs: Command, queue: JobQueue, server_dsn: str, prefix: str
) -> None:
    number = queue.enqueue("resize")
    hands = Hands(queue, server_dsn, prefix)
    [job] = hands.take()
    assert "attempt 1 taken by w" in jobs("show", str(number))[1]
    queue.release_lease(number, "w", "retry", error="no disk", attempt=job.attempt)
    [job] = hands.take()
    queue.release_lease(number, "w", "done", attempt=job.attempt)
    lines = [line.split("  ", 1)[1] for line in jobs("show", str(number))[1].splitlines() if line.startswith("20")]
    assert [re.sub(r"\d+\.\d s", "N s", line) for line in lines] == [
        "enqueued",
        "attempt 1 taken by w",
        "attempt 1 failed on w, N s after it was taken",
        "attempt 2 taken by w",
        "done, N s after it was taken",
    ]
    told = json.loads(jobs("show", str(number), "--json")[1])
    assert told["taken_by"] == "w"
    assert told["errors"][0]["taken_at"] < told["taken_at"] < told["finished_at"]


def test_one_job_is_shown_to_programs(jobs: Command, failed: int) -> None:
    found = json.loads(jobs("show", str(failed), "--json")[1])
    assert (found["id"], found["status"], found["job_id"]) == (failed, "failed", "photo-1")
    assert [error["error"] for error in found["errors"]] == [TRACEBACK]


def test_a_job_that_is_not_there_is_one_line_and_status_1(jobs: Command, queue: JobQueue) -> None:
    queue.counts()
    for verb in ("show", "retry", "cancel"):
        status, out, err = jobs(verb, "17")
        assert (status, out, len(err.splitlines())) == (1, "", 1)
        assert "no job '17'" in err
    assert jobs("show", "17", "--json") == (1, "null\n", "")
    for verb in ("retry", "cancel"):
        status, out, err = jobs(verb, "17", "--json")
        assert (status, json.loads(out), err) == (1, {"done": False}, "")


def test_one_job_is_retried_once(jobs: Command, queue: JobQueue, failed: int) -> None:
    assert jobs("retry", "photo-1") == (0, f"job {failed} will run again\n", "")
    stored = queue.get(failed)
    assert stored is not None
    assert stored.status == "pending"
    status, _, err = jobs("retry", "photo-1")
    assert (status, "waits to be taken already" in err) == (1, True)


def test_one_job_is_cancelled_once(jobs: Command, queue: JobQueue) -> None:
    waiting = queue.enqueue("mail")
    assert jobs("cancel", str(waiting)) == (0, f"job {waiting} is cancelled\n", "")
    assert queue.counts()["cancelled"] == 1
    status, _, err = jobs("cancel", str(waiting))
    assert (status, "is cancelled already" in err) == (1, True)


def test_many_are_changed_only_when_somebody_says_yes(jobs: Command, queue: JobQueue) -> None:
    queue.enqueue_many([NewJob("mail"), NewJob("mail"), NewJob("resize")])
    status, out, err = jobs("cancel", "--all", "--kind", "mail")
    assert (status, out) == (2, "")
    assert "would cancel 2 pending/processing/retry jobs of kind 'mail': add --yes" in err
    status, out, err = jobs("cancel", "--all", "--json")
    assert (status, json.loads(out), len(err.splitlines())) == (2, {"done": 0}, 1)
    status, out, err = jobs("retry", "--all", "--json")
    assert (status, json.loads(out), err) == (1, {"done": 0}, "")  # There is nothing to ask about.
    assert queue.counts()["pending"] == 3
    assert jobs("cancel", "--all", "--kind", "mail", "--yes") == (0, "2 jobs cancelled\n", "")
    assert queue.counts() == {"pending": 1, "processing": 0, "retry": 0, "done": 0, "failed": 0, "cancelled": 2}
    assert jobs("retry", "--all", "--yes") == (1, "", "no failed jobs\n")
    assert jobs("retry", "--all", "--status", "cancelled", "--yes") == (0, "2 jobs will run again\n", "")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("retry",), "--all"),
        (("cancel", "17", "--all"), "--all"),
        (("cancel", "17", "--kind", "mail"), "filters go with --all"),
        (("retry", "--all", "--yes", "--status", "pending"), "done"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    jobs: Command, queue: JobQueue, arguments: tuple[str, ...], word: str
) -> None:
    queue.counts()
    status, out, err = jobs(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert word in err


def test_nothing_that_a_job_brings_is_obeyed_by_a_terminal(
    jobs: Command, queue: JobQueue, server_dsn: str, prefix: str
) -> None:
    evil = "[b]x[/]\x1b]0;mine\x07\x9b31m"
    failed = queue.enqueue(evil, {evil: "\x9b31m"}, queue=evil, job_id=f"key {evil}")
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        update = f"update {prefix}job set status = 'failed', last_error = %s where id = %s".encode()
        conn.execute(update, (f"Traceback:\n\tline\nValueError: {evil}", failed))
    queue.pause(evil)
    shown = [jobs("list"), jobs("show", str(failed)), jobs("counts"), jobs("pause", evil)]
    assert [status for status, _, _ in shown] == [0, 0, 0, 0]
    assert {"Traceback:", "line"} <= {line.strip() for line in shown[1][1].splitlines()}
    ended = queue.get(failed)
    assert ended is not None
    runs = replace(ended, status="processing", locked_by=f"w{evil}", progress_message=evil)
    page = StringIO()
    jobs_view.show_timeline(Console(file=page, markup=False, width=200), runs, ())
    jobs_view.show_jobs(Console(file=page, markup=False, width=200), [runs], {})
    for out in (*(out for _, out, _ in shown), page.getvalue()):
        assert not set(out) & {"\x1b", "\x07", "\x9b"}
        assert r"[b]x[/]\x1b]0;mine\x07\x9b31m" in out


def test_counts_name_what_keeps_jobs_waiting(jobs: Command, queue: JobQueue) -> None:
    queue.enqueue("mail")
    assert jobs("pause")[:2] == (0, "queue 'default' is paused; `jobsync jobs resume default` lets it run again\n")
    status, out, _ = jobs("counts")
    assert status == 0
    assert "1  pending" in out
    assert "queue 'default' is paused" in out
    assert "no live worker knows kind 'mail'" in out
    found = json.loads(jobs("counts", "--json")[1])
    assert (found["pending"], found["done"], found["paused"]) == (1, 0, ["default"])
    assert [each["kind"] for each in found["unknown_kinds"]] == ["mail"]
    assert jobs("resume") == (0, "queue 'default' runs again\n", "")
    assert jobs("resume") == (1, "", "queue 'default' was not paused\n")


def test_a_database_that_is_not_there_is_one_line_without_the_password() -> None:
    status, out, err = call("jobs", "list", "--dsn", "postgresql://u:hush-hush@127.0.0.1:1/d")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "127.0.0.1:1" in err
    assert "hush-hush" not in err
