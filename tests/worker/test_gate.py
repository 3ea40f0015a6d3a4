"""Jobs that are taken one by one: lines of an affinity, limits, suspects, last attempts."""

import threading
from collections import defaultdict
from contextlib import ExitStack

from jobsync import Job, JobQueue, RunningJob
from tests.api.jobs import eventually, query, settings
from tests.worker.support import await_status, leases, queue, worker


class Lines:
    """Takes note of who runs what, and that no line runs two at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[str, int] = defaultdict(int)
        self.ran: dict[str, list[int]] = defaultdict(list)
        self.where: dict[str, list[str]] = defaultdict(list)
        self.twice = 0

    def __call__(self, job: RunningJob) -> None:
        key = job.affinity
        assert key is not None
        with self.lock:
            self.running[key] += 1
            self.twice += self.running[key] > 1
            self.where[key].append(job.worker_id)
        threading.Event().wait(0.001)
        with self.lock:
            self.running[key] -= 1
            self.ran[key].append(job.payload)
        if job.payload == 3 and job.attempts == 1:
            raise ValueError("the line waits for it")


def enqueue_lines(jobs: JobQueue, lines: int, length: int) -> None:
    for number in range(length):
        for line in range(lines):
            jobs.enqueue("x", number, affinity=f"line {line}")


def test_a_line_runs_in_order_and_one_at_a_time_whoever_runs_it(server_dsn: str, prefix: str) -> None:
    lines = Lines()
    with queue(server_dsn, prefix) as jobs, ExitStack() as stack:
        enqueue_lines(jobs, 5, 8)
        for name in ("one", "two"):
            each = worker(server_dsn, prefix, worker_id=name, max_concurrent_jobs=3)
            each.handles("x")(lines)
            stack.enter_context(each)
        eventually(lambda: jobs.counts()["done"] == 40, "all are done", limit_sec=60)
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")
    assert lines.twice == 0
    assert all(ran == [0, 1, 2, 3, 3, 4, 5, 6, 7] for ran in lines.ran.values()), lines.ran
    assert query(server_dsn, f"select count(*) from {prefix}job_place")[0][0] == 0


def test_a_line_runs_on_the_node_that_owns_its_token(server_dsn: str, prefix: str) -> None:
    lines = Lines()
    config = settings(server_dsn, prefix, minimum_nodes=2)
    made: dict[str, Job] = {name: Job(name, coordination_config=config) for name in ("one", "two")}
    entering = [threading.Thread(target=job.__enter__) for job in made.values()]
    for thread in entering:
        thread.start()
    for thread in entering:
        thread.join(30)
    with queue(server_dsn, prefix) as jobs, ExitStack() as stack:
        try:
            enqueue_lines(jobs, 8, 4)
            for name, job in made.items():
                each = worker(server_dsn, prefix, worker_id=name, node=job, max_concurrent_jobs=2)
                each.handles("x")(lines)
                stack.enter_context(each)
            eventually(lambda: jobs.counts()["done"] == 32, "all are done", limit_sec=60)
            for line, where in lines.where.items():
                (owner,) = [name for name, job in made.items() if job.can_claim_task(line)]
                assert set(where) == {owner}
        finally:
            stack.close()
            for job in made.values():
                job.__exit__(None, None, None)
    assert lines.twice == 0
    assert all(ran == [0, 1, 2, 3, 3] for ran in lines.ran.values()), lines.ran


def test_when_a_token_moves_its_line_goes_on_in_order_and_never_twice_at_once(server_dsn: str, prefix: str) -> None:
    lines = Lines()
    config = settings(server_dsn, prefix)
    with queue(server_dsn, prefix) as jobs, Job("one", coordination_config=config) as first:
        enqueue_lines(jobs, 8, 12)
        one = worker(server_dsn, prefix, worker_id="one", node=first, max_concurrent_jobs=2)
        one.handles("x")(lines)
        with one, Job("two", coordination_config=config) as second:
            two = worker(server_dsn, prefix, worker_id="two", node=second, max_concurrent_jobs=2)
            two.handles("x")(lines)
            with two:
                eventually(lambda: jobs.counts()["done"] == 96, "all are done", limit_sec=60)
    assert lines.twice == 0
    assert all(ran == [0, 1, 2, 3, 3, *range(4, 12)] for ran in lines.ran.values()), lines.ran
    assert {name for where in lines.where.values() for name in where} == {"one", "two"}


def test_a_limit_holds_among_workers_and_nothing_is_left_lying(server_dsn: str, prefix: str) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def handle(job: RunningJob) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1

    with queue(server_dsn, prefix) as jobs, ExitStack() as stack:
        jobs.set_limit("x", at_once=2)
        for name in ("one", "two"):
            each = worker(server_dsn, prefix, worker_id=name, max_concurrent_jobs=4)
            each.handles("x")(handle)
            each.handles("y")(lambda job: None)
            stack.enter_context(each)
        jobs.enqueue_many([("xy"[number % 2], number) for number in range(120)])
        eventually(lambda: jobs.counts()["done"] == 120, "all are done", limit_sec=60)
    assert 1 <= most[0] <= 2


def test_what_is_taken_singly_is_not_starved_by_a_stream_nor_the_other_way_round(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)
    go = threading.Event()
    left = [0]

    with queue(server_dsn, prefix) as jobs:

        @made.handles("stream")
        def stream(job: RunningJob) -> None:
            threading.Event().wait(0.001)

        @made.handles("single")
        def single(job: RunningJob) -> None:
            left[0] = jobs.counts()["pending"]
            go.set()

        jobs.enqueue_many([("stream", None)] * 1000)
        with made:
            eventually(lambda: made.get_status().fetched_jobs > 0, "the stream runs")
            jobs.enqueue("single", max_attempts=1)
            assert go.wait(20)
            assert left[0] > 100
            last = [jobs.enqueue("single", affinity=f"line {number}") for number in range(50)]
            eventually(lambda: jobs.counts()["done"] > 200, "the stream goes on")
            await_status(jobs, last[-1], "done")


def test_suspects_run_one_at_a_time(server_dsn: str, prefix: str) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def handle(job: RunningJob) -> None:
        with lock:
            running[0] += job.crashes > 0
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.003)
        with lock:
            running[0] -= job.crashes > 0

    made = worker(server_dsn, prefix, max_concurrent_jobs=8)
    made.handles("x")(handle)
    with queue(server_dsn, prefix) as jobs:
        jobs.enqueue_many([("x", None)] * 20)
        lane = query(server_dsn, f"select lane from {prefix}job_lane")[0][0]
        with Job("alive", coordination_config=settings(server_dsn, prefix)):
            taken = query(
                server_dsn,
                f"select t.id from {prefix}node n, {prefix}job_take('ill', n.incarnation, array[{lane}], 10, 60000) t",
            )
            assert len(taken) == 10
            query(server_dsn, f"update {prefix}job_lease set locked_until = clock_timestamp()")
            assert jobs.reset_expired_leases() == 10
        with made:
            eventually(lambda: jobs.counts()["done"] == 20, "all are done", limit_sec=60)
        assert len([job for job in jobs.list_jobs() if job.crashes == 1]) == 10
    assert most[0] == 1


def test_a_suspect_that_hangs_and_is_cancelled_holds_up_no_other(server_dsn: str, prefix: str) -> None:
    go, hangs, ill_began = threading.Event(), threading.Event(), threading.Semaphore(0)
    ill = worker(server_dsn, prefix, worker_id="ill", max_concurrent_jobs=2, stop_timeout_seconds=0.1)
    made = worker(server_dsn, prefix, worker_id="well", max_concurrent_jobs=4)

    @ill.handles("x")
    def begin(job: RunningJob) -> None:
        ill_began.release()
        go.wait(60)

    @made.handles("x")
    def hang(job: RunningJob) -> None:
        if job.payload == "hangs":
            hangs.set()
            go.wait(60)

    with queue(server_dsn, prefix) as jobs:
        first, second = jobs.enqueue_many([("x", "hangs"), ("x", None)])
        with ill:
            assert ill_began.acquire(timeout=20)
            assert ill_began.acquire(timeout=20)
            query(server_dsn, f"update {prefix}job_lease set locked_until = clock_timestamp()")
            jobs.reset_expired_leases()
            eventually(lambda: jobs.counts()["processing"] == 0, "both have crashed")
        with made:
            assert hangs.wait(20)
            assert jobs.cancel(first)
            assert await_status(jobs, second, "done").crashes == 1
            go.set()
