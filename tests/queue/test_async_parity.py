"""`AsyncJobQueue` has the surface of `JobQueue`: names, parameters and texts, whatever that comes to have."""

import inspect
from typing import Any

import pytest

from jobsync import AsyncJobQueue, JobQueue

NAMES = sorted(name for name in dir(JobQueue) if not name.startswith("_"))


def both(name: str) -> tuple[Any, Any]:
    return inspect.getattr_static(JobQueue, name), inspect.getattr_static(AsyncJobQueue, name)


def test_the_names_are_the_same() -> None:
    assert [name for name in dir(AsyncJobQueue) if not name.startswith("_")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_the_same_and_awaited(name: str) -> None:
    plain, of_async = both(name)
    assert inspect.signature(of_async) == inspect.signature(plain)
    assert inspect.getdoc(of_async) == inspect.getdoc(plain)
    assert inspect.getdoc(plain)
    assert inspect.iscoroutinefunction(of_async)
    assert of_async.__wrapped__ is plain


def test_the_classes_are_made_alike_and_described_alike() -> None:
    assert inspect.signature(AsyncJobQueue) == inspect.signature(JobQueue)
    assert (AsyncJobQueue.__doc__ or "").startswith(inspect.cleandoc(JobQueue.__doc__ or "-"))
