"""A run goes on after a fail-over that lost audits: the loop does again what the new server does not know to be done.

The fail-over is played: the rows are made to bear another timeline, some lose what was acknowledged, and the node's
session ends. Real ones, with a standby, are in `tests/chaos/test_failover.py`.
"""

from jobsync import Job
from tests.api.jobs import eventually, query, settings

IDS = [f"t{number}" for number in range(20)]


def fail_over(dsn: str, prefix: str, *lost: str) -> None:
    query(dsn, f"delete from {prefix}audit_in_run where item = any (%s)", list(lost))
    query(dsn, f"update {prefix}meta set timeline = '00000000'")
    old = query(dsn, f"select bind from {prefix}node where name = 'w0'")
    query(dsn, f"select pg_terminate_backend(backend_pid) from {prefix}node where name = 'w0'")
    eventually(lambda: query(dsn, f"select bind from {prefix}node where name = 'w0'") != old, "bound anew")


def test_what_a_failover_lost_is_done_again_and_nothing_else(server_dsn: str, prefix: str) -> None:
    begun: list[object] = []
    with Job("w0", coordination_config=settings(server_dsn, prefix), run="r") as job:
        for task in job.tasks(IDS):
            begun.append(task.id)
            if len(begun) == 10:
                audited = f"select item from {prefix}audit where run = 'r'"
                eventually(lambda: len(query(server_dsn, audited)) == 9, "the first nine are recorded")  # noqa: B023
                fail_over(server_dsn, prefix, "t0", "t5")
    assert begun == [*IDS, "t0", "t5"]
    assert sorted(query(server_dsn, f"select item from {prefix}audit")) == sorted((item,) for item in IDS)


def test_the_claim_of_what_was_lost_does_not_keep_its_next_owner_from_it(server_dsn: str, prefix: str) -> None:
    """The token goes to another node after the fail-over, while the node that claimed and did the task lives on."""
    given = settings(server_dsn, prefix)
    with Job("w0", coordination_config=given, run="r") as job, Job("w1", coordination_config=given, run="r") as other:
        mine = next(item for item in (f"x{number}" for number in range(1000)) if job.can_claim_task(item))
        first = job.tasks([mine, "elsewhere"])
        assert next(first).text == mine
        first.done()
        audited = f"select count(*) from {prefix}audit"
        eventually(lambda: query(server_dsn, audited) == [(1,)])
        job.register_lock(mine, ["w1"])
        eventually(lambda: other.can_claim_task(mine), "the token has moved")
        fail_over(server_dsn, prefix, mine)
        first._ask_new_server()
        assert [task.text for task in other.tasks([mine])] == [mine]
