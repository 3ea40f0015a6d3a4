"""`for task in job.tasks(ids)`: what is yielded, when it counts as done, what is let go of."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from jobsync import Job
from jobsync.api.tasks_loop import MOST_IN_BATCH
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import TOKENS, eventually, in_thread, owned_by, query, settings


@pytest.fixture
def job(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        yield job


@pytest.fixture
def job_in_run(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
        yield job


@pytest.fixture
def audited(server_dsn: str, prefix: str) -> Callable[[], list[str]]:
    return lambda: [row[0] for row in query(server_dsn, f"select item from {prefix}audit order by item")]


@pytest.fixture
def claimed(server_dsn: str, prefix: str) -> Callable[[], list[str]]:
    """List what is claimed and not done."""
    return lambda: [
        row[0]
        for row in query(
            server_dsn,
            f"select item from {prefix}claim where item not in (select item from {prefix}audit) order by item",
        )
    ]


# --- what is yielded -----------------------------------------------------------------------------


def test_all_tasks_come_in_order_when_one_node_owns_them_all(job: Job) -> None:
    assert [task.id for task in job.tasks(range(1500))] == list(range(1500))


def test_only_owned_tasks_come(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given):
        eventually(lambda: len(a.my_tokens) == TOKENS // 2)
        assert [t.id for t in a.tasks(range(200))] == [n for n in range(200) if a.can_claim_task(n)]


def test_a_task_that_is_yielded_is_claimed_durably(job: Job, claimed: Callable[[], list[str]]) -> None:
    for task in job.tasks(["x"]):
        assert claimed() == [task.id]


def test_an_empty_source_yields_nothing(job_in_run: Job) -> None:
    assert list(job_in_run.tasks([])) == []


def test_one_text_is_one_task(job: Job) -> None:
    assert [task.id for task in job.tasks("abc")] == ["abc"]


def test_a_callable_gives_the_source(job: Job) -> None:
    assert [task.id for task in job.tasks(lambda: iter(["x", "y"]))] == ["x", "y"]


# --- when it counts as done ----------------------------------------------------------------------


def test_coming_back_for_the_next_marks_the_last_as_done(job: Job, audited: Callable[[], list[str]]) -> None:
    for _ in job.tasks(["x", "y"]):
        pass
    job.get_audit()
    assert audited() == ["x", "y"]


def test_a_finished_task_is_audited_soon_though_the_source_blocks(job: Job, audited: Callable[[], list[str]]) -> None:
    go_on, finished_sec = threading.Event(), [0.0]

    def source() -> Iterator[str]:
        yield "x"
        finished_sec[0] = boot_sec()
        assert go_on.wait(20)

    def watch() -> None:
        eventually(lambda: audited() == ["x"])
        # 100 ms are promised; the rest is the look itself, which connects anew, on a busy machine.
        assert boot_sec() - finished_sec[0] < 0.5
        go_on.set()

    with in_thread(watch):
        for _ in job.tasks(source()):
            pass


def test_nothing_waits_in_a_batch_while_the_source_blocks(job: Job, claimed: Callable[[], list[str]]) -> None:
    go_on, began = threading.Event(), list[object]()

    def source() -> Iterator[int]:
        yield from range(5)
        eventually(lambda: claimed() == [])
        assert began == [0, 1, 2, 3, 4]
        go_on.set()

    for task in job.tasks(source()):
        began.append(task.id)
    assert go_on.is_set()


def test_batches_never_grow_beyond_their_bound(job: Job, server_dsn: str, prefix: str) -> None:
    for number, _ in enumerate(job.tasks(range(3 * MOST_IN_BATCH))):
        if number == MOST_IN_BATCH + 100:
            break
    open_claims = query(
        server_dsn,
        f"select count(*) from {prefix}claim where item not in (select item from {prefix}audit)",
    )[0][0]
    assert 0 < open_claims <= 2 * MOST_IN_BATCH


def test_break_leaves_the_task_in_hand_not_done(job: Job) -> None:
    for task in job.tasks(["x", "y", "z"]):
        if task.id == "y":
            break
    assert [row["item"] for row in job.get_audit()] == ["x"]


def test_an_exception_in_the_body_leaves_the_task_not_done(job: Job) -> None:
    with pytest.raises(KeyError):  # noqa: PT012
        for _ in job.tasks(["x"]):
            raise KeyError
    assert job.get_audit() == []


def test_done_before_a_break_marks_the_task_in_hand(job: Job) -> None:
    with job.tasks(["x", "y"]) as tasks:
        for _ in tasks:
            tasks.done()
            break
    assert [row["item"] for row in job.get_audit()] == ["x"]


def test_the_block_releases_the_task_in_hand_and_the_unstarted_at_once(
    job_in_run: Job, claimed: Callable[[], list[str]]
) -> None:
    with job_in_run.tasks(range(100)) as tasks:
        for task in tasks:
            if task.id == 10:
                assert len(claimed()) > 1
                break
    job_in_run.get_audit()
    assert claimed() == []


def test_without_a_block_they_are_released_at_the_next_loop(job: Job, claimed: Callable[[], list[str]]) -> None:
    for task in job.tasks(range(100)):
        if task.id == 10:
            break
    job.tasks([])
    job.get_audit()
    assert claimed() == []


def test_without_a_block_they_are_released_at_exit(
    server_dsn: str, prefix: str, claimed: Callable[[], list[str]]
) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        for task in job.tasks(range(100)):
            if task.id == 10:
                break
    assert claimed() == []


def test_what_was_left_by_break_comes_again_in_the_next_loop(job_in_run: Job) -> None:
    for task in job_in_run.tasks(["x", "y", "z"]):
        if task.id == "y":
            break
    assert [task.id for task in job_in_run.tasks(["x", "y", "z"])] == ["y", "z"]


def test_a_source_that_raises_passes_its_error_and_keeps_what_was_done(job: Job) -> None:
    def source() -> Iterator[str]:
        yield "x"
        raise OSError("the list is torn")

    with pytest.raises(OSError, match="torn"):
        list(job.tasks(source()))
    assert [row["item"] for row in job.get_audit()] == ["x"]


def test_a_task_that_comes_twice_in_a_run_is_done_once(job_in_run: Job) -> None:
    assert [task.id for task in job_in_run.tasks(["x", "x", "y", "x"])] == ["x", "y"]


# --- stopping ------------------------------------------------------------------------------------


def test_stop_ends_the_loop_after_the_task_in_hand(job: Job) -> None:
    seen = []
    for task in job.tasks(range(100)):
        seen.append(task.id)
        if task.id == 5:
            job.stop()
    assert seen == [0, 1, 2, 3, 4, 5]
    assert len(job.get_audit()) == 6


def test_stop_ends_a_loop_that_waits_for_others(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given, run="r") as a, Job("b", coordination_config=given) as b:
        foreign = owned_by(b)
        walking = threading.Event()

        def source() -> Iterator[str]:
            walking.set()
            yield foreign

        def stop() -> None:
            assert walking.wait(10)
            a.stop()

        with in_thread(stop):
            assert list(a.tasks(source)) == []


# --- runs ----------------------------------------------------------------------------------------


def test_in_a_run_a_task_is_done_once_however_often_it_is_offered(job_in_run: Job) -> None:
    assert len(list(job_in_run.tasks(range(50)))) == 50
    assert list(job_in_run.tasks(range(50))) == []


def test_without_a_run_offering_again_means_doing_again(job: Job) -> None:
    assert len(list(job.tasks(range(50)))) == 50
    assert len(list(job.tasks(range(50)))) == 50


def test_the_date_of_a_run_is_fixed_at_its_first_entry(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given, run="r", date="2026-11-22") as job:
        list(job.tasks(["x"]))
    with Job("a", coordination_config=given, run="r", date="2026-11-23") as job:
        assert job.date.isoformat() == "2026-11-22"
        assert list(job.tasks(["x"])) == []


def test_a_list_is_walked_again_until_somebody_did_every_task(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given, run="r") as a, Job("b", coordination_config=given) as b:
        foreign = owned_by(b)
        b.__exit__(None, None, None)
        # The token comes late: at the first walk it may still be on its way.
        assert [task.id for task in a.tasks([foreign])] == [foreign]


def test_a_list_waits_for_the_other_node_to_finish_its_share(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given, run="r") as a, Job("b", coordination_config=given, run="r") as b:
        eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2)
        theirs = owned_by(b)
        ended = threading.Event()

        def first() -> None:
            list(a.tasks([theirs]))
            ended.set()

        with in_thread(first):
            for _ in b.tasks([theirs]):
                assert not ended.wait(0.3)
            assert ended.wait(10)


def test_a_generator_is_walked_once(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given, run="r") as a, Job("b", coordination_config=given) as b:
        assert list(a.tasks(iter([owned_by(b)]))) == []


def test_a_task_claimed_in_the_run_by_a_node_that_left_is_taken_over(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("b", coordination_config=given, run="r") as b:
        assert b.add_task("x")
    with Job("a", coordination_config=given, run="r") as a:
        assert [task.id for task in a.tasks(["x"])] == ["x"]


# --- in a fleet ----------------------------------------------------------------------------------


def test_a_handover_waits_for_the_body_in_progress(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a:
        stopped = threading.Event()

        def second() -> None:
            with Job("b", coordination_config=given) as b:
                assert len(b.my_tokens) == TOKENS // 2
                stopped.wait(10)

        moving = moving_task(a)
        for _ in a.tasks([moving]):
            thread = threading.Thread(target=second)
            thread.start()
            eventually(lambda: not a.can_claim_task(moving))
            token = a.task_to_token(moving)
            assert query(server_dsn, f"select node from {prefix}token where token_id = %s", token) == [("a",)]
        eventually(
            lambda: query(server_dsn, f"select node from {prefix}token where token_id = %s", token) == [("b",)],
            limit_sec=5.0,
        )
        stopped.set()
        thread.join(20)


def moving_task(job: Job) -> str:
    """Find a task that a second node would get."""
    with Job("b", coordination_config=job._settings) as scout:
        eventually(lambda: len(scout.my_tokens) == TOKENS // 2)
        task = owned_by(scout)
    eventually(lambda: len(job.my_tokens) == TOKENS)
    return task


def test_tasks_that_were_lost_between_claim_and_yield_are_released_and_done_by_the_new_owner(
    server_dsn: str, prefix: str
) -> None:
    given, ids = settings(server_dsn, prefix), range(400)
    done: list[tuple[str, object]] = []

    def work(name: str, ready: Callable[[Job], None]) -> None:
        with Job(name, coordination_config=given, run="r") as job:
            for task in job.tasks(ids):
                done.append((name, task.id))
                ready(job)

    with ExitStack() as others:

        def join_half_way(job: Job) -> None:
            if len(done) == 100:
                others.enter_context(in_thread(lambda: work("b", lambda _: None)))
                eventually(lambda: len(job.my_tokens) == TOKENS // 2)

        work("a", join_half_way)
    assert sorted(Counter(task for _, task in done).items()) == [(number, 1) for number in ids]
    assert {name for name, _ in done} == {"a", "b"}


def test_two_thousand_tasks_are_done_once_by_three_nodes_and_a_fourth_that_joins_half_way(
    server_dsn: str, prefix: str
) -> None:
    # Nobody begins before the three are there: who came late would wait for bodies that wait for the fourth.
    given, ids = settings(server_dsn, prefix, total_tokens=1000, minimum_nodes=3), list(range(2000))
    done: list[tuple[str, object]] = []
    fourth_has_begun, half_way = threading.Event(), threading.Event()

    def work(name: str) -> None:
        with Job(name, coordination_config=given, run="r") as job:
            for task in job.tasks(ids):
                done.append((name, task.id))
                if name == "d":
                    fourth_has_begun.set()
                elif len(done) >= 1000:
                    half_way.set()
                    assert fourth_has_begun.wait(30)

    def late() -> None:
        assert half_way.wait(60)
        work("d")

    with Job("schema", coordination_config=settings(server_dsn, prefix, total_tokens=1000)):
        pass
    with ExitStack() as fleet:
        for name in "abc":
            fleet.enter_context(in_thread(lambda name=name: work(name)))  # type: ignore[misc]
        fleet.enter_context(in_thread(late))
    assert sorted(Counter(task for _, task in done).items()) == [(number, 1) for number in ids]
    assert {name for name, _ in done} == {"a", "b", "c", "d"}
    assert query(server_dsn, f"select count(*) from {prefix}audit where run = 'r'") == [(2000,)]
