"""A token comes to a worker's node, and its lines go on there at once: the database has nobody to notify of it."""

from jobsync import Job
from jobsync.core.tokens import TokenSet
from jobsync.runtime.node import Node
from tests.api.jobs import TOKENS, eventually, owned_by, settings, task_for_each_token


def test_who_listens_for_jobs_hears_of_tokens_that_came_and_sees_them(server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    with Job("giver", coordination_config=config) as giver, Job("taker", coordination_config=config) as taker:
        eventually(lambda: len(giver.my_tokens) == len(taker.my_tokens) == TOKENS // 2)
        node = taker._node
        assert isinstance(node, Node)
        heard: list[TokenSet] = []
        node.listen_for_jobs(lambda: heard.append(node.tokens))
        eventually(lambda: node.hears_jobs and heard, "the session listens")
        task = owned_by(giver)
        token = task_for_each_token(TOKENS).index(task)
        assert not any(token in tokens for tokens in heard)
        giver.register_lock(task, "taker")
        eventually(lambda: taker.can_claim_task(task), "the token moved", limit_sec=60)
        eventually(lambda: any(token in tokens for tokens in heard), "the worker is told")
