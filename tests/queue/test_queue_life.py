"""How a queue begins, is shared, is forked, and meets a server that goes away."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest

from jobsync import CoordinationConfig, DatabaseUnavailable, JobQueue
from tests.servers import PrivateServer


def test_many_begin_at_once_on_an_empty_database(server_dsn: str, prefix: str) -> None:
    """Queues and threads of their own, all at one instant: the schema is made once, and nobody is refused."""
    config = CoordinationConfig(dsn=server_dsn, appname=prefix)
    queues = [JobQueue(config), *[JobQueue(config)] * 4, JobQueue(config), JobQueue(config)]
    start = Barrier(len(queues))

    def begin(queue: JobQueue) -> int:
        start.wait(60)
        return queue.enqueue("k")

    with ThreadPoolExecutor(len(queues)) as threads:
        ids = list(threads.map(begin, queues))
    assert len(set(ids)) == len(queues)
    assert queues[0].counts()["pending"] == len(queues)
    for queue in queues:
        queue.close()


def test_threads_share_a_queue(server_dsn: str, prefix: str) -> None:
    """More threads than it has connections."""
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue, ThreadPoolExecutor(16) as threads:
        ids = list(threads.map(lambda n: queue.enqueue("k", n), range(200)))
        many = list(threads.map(lambda n: queue.enqueue_many([(f"kind-{n}", n)] * 10), range(16)))
        assert len({*ids, *(number for each in many for number in each)}) == 360
        assert queue.counts()["pending"] == 360


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(server_dsn: str, prefix: str) -> None:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        first = queue.enqueue("parent")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                queue.enqueue("child")
                queue.close()
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert queue.enqueue("parent") > first
        assert {job.kind for job in queue.list_jobs()} == {"parent", "child"}
        assert queue.counts()["pending"] == 3


def test_a_restart_of_the_server_is_survived(make_private_server: Callable[..., PrivateServer]) -> None:
    server = make_private_server()
    with JobQueue(CoordinationConfig(dsn=server.dsn)) as queue:
        number = queue.enqueue("k", job_id="a")
        server.stop()
        with pytest.raises(DatabaseUnavailable):
            queue.enqueue("k", job_id="b")
        with pytest.raises(DatabaseUnavailable):
            queue.enqueue_many([("k", 1)])
        server.start()
        assert queue.enqueue("k", job_id="a") == number
        assert len(queue.enqueue_many([("k", 1)])) == 1
        assert queue.counts()["pending"] == 2


def test_a_session_ended_by_the_server_costs_no_call(server_dsn: str, prefix: str) -> None:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        queue.enqueue("k")
        with psycopg.connect(server_dsn, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity "
                "where query like %s and pid <> pg_backend_pid()",
                [f"%{prefix}job_enqueue%"],
            )
        queue.enqueue("k")
        assert queue.counts()["pending"] == 2


def test_a_lane_that_was_lost_is_made_again(server_dsn: str, prefix: str) -> None:
    """As after a fail-over to a server that had not heard of the newest kinds yet."""
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        for way in range(3):
            with psycopg.connect(server_dsn, autocommit=True) as admin:
                queue.counts()
                admin.execute(f"truncate {prefix}job_lane, {prefix}job_body, {prefix}job_ready, {prefix}job_gated")
            if way == 0:
                queue.enqueue("k")
            elif way == 1:
                queue.enqueue("k", job_id="a")
            else:
                queue.enqueue_many([("k", 1)])
            assert [job.kind for job in queue.list_jobs()] == ["k"]
