"""Assertions on the queue, and what they say when they fail."""

from unittest.mock import ANY

import pytest

from jobsync import InvalidArgument, JobQueue
from jobsync.testing import assert_enqueued, enqueued, run_next


def test_what_waits_is_listed_oldest_first(queue: JobQueue) -> None:
    queue.enqueue("a", 1)
    queue.enqueue("b", 2)
    queue.enqueue("a", 3)
    assert [job.payload for job in enqueued(queue)] == [1, 2, 3]
    assert [job.payload for job in enqueued(queue, "a")] == [1, 3]
    run_next({"a": lambda job: None}, queue)
    assert [job.payload for job in enqueued(queue)] == [2, 3]


def test_what_fits_passes_and_is_given(queue: JobQueue) -> None:
    number = queue.enqueue("mail", {"to": "anna", "at": 5}, priority=3, affinity="anna")
    (job,) = assert_enqueued(queue, "mail", payload={"to": "anna", "at": ANY}, priority=3, affinity="anna")
    assert job.id == number
    assert_enqueued(queue, "mail", times=1)
    assert assert_enqueued(queue, "bill", times=0) == []


def test_the_message_says_what_is_there_the_likest_first(queue: JobQueue) -> None:
    queue.enqueue("bill", {"to": "bert"})
    queue.enqueue("mail", {"to": "carla"})
    with pytest.raises(AssertionError) as told:
        assert_enqueued(queue, "mail", payload={"to": "anna"})
    assert str(told.value).splitlines() == [
        "expected a job with kind='mail', payload={'to': 'anna'}; 0 fit",
        "what waits (2):",
        "  job 2 (pending): kind='mail', payload={'to': 'carla'}",
        "  job 1 (pending): kind='bill', payload={'to': 'bert'}",
    ]


def test_the_count_is_exact(queue: JobQueue) -> None:
    queue.enqueue_many([("mail", 1), ("mail", 2)])
    assert_enqueued(queue, "mail", times=2)
    for times in (0, 1, 3):
        with pytest.raises(AssertionError, match="2 fit"):
            assert_enqueued(queue, "mail", times=times)


def test_an_empty_queue_is_said(queue: JobQueue) -> None:
    with pytest.raises(AssertionError, match="nothing waits"):
        assert_enqueued(queue, "mail")


def test_none_is_a_payload_like_another(queue: JobQueue) -> None:
    queue.enqueue("mail")
    assert_enqueued(queue, "mail", payload=None)
    with pytest.raises(AssertionError):
        assert_enqueued(queue, "mail", payload={})


def test_a_column_that_a_job_has_not_is_refused(queue: JobQueue) -> None:
    with pytest.raises(InvalidArgument, match="colour"):
        assert_enqueued(queue, "mail", colour="red")
