"""`AsyncJob` has the same surface as `Job`: names, parameters and texts, whatever `Job` comes to have."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from jobsync import AsyncJob, Job

# What has to differ, and why. A name that stands in neither class is refused below.
OTHER_PARAMETERS = {
    "tasks": "ids may also be an async iterable, or give one",
    "singleton": "the function may be a coroutine function",
}
# What answers at once in both: from memory, without a query. Everything else that can be called is awaited.
LOCAL = {
    "am_i_healthy",
    "am_i_leader",
    "can_claim_task",
    "expose_metrics",
    "get_coordination_status",
    "get_my_task_ids",
    "get_task_ids_for_token",
    "health",
    "serve_health",
    "singleton",
    "status",
    "stop",
    "task_to_token",
}
# What gives an object for `async with` or `async for`, and so is called without await.
GIVES_SOMETHING_ASYNC = {"leader", "tasks", "transaction"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def both() -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(public(Job)):
        yield name, inspect.getattr_static(Job, name), inspect.getattr_static(AsyncJob, name, None)


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Give names, kinds and defaults."""
    signature = inspect.signature(function, follow_wrapped=True)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def test_the_names_are_the_same() -> None:
    assert public(AsyncJob) == public(Job)


@pytest.mark.parametrize(("name", "of_job", "of_async"), list(both()))
def test_what_is_a_property_is_one_in_both(name: str, of_job: Any, of_async: Any) -> None:
    assert isinstance(of_async, property) == isinstance(of_job, property)


@pytest.mark.parametrize(("name", "of_job", "of_async"), list(both()))
def test_the_parameters_are_the_same(name: str, of_job: Any, of_async: Any) -> None:
    if isinstance(of_job, property):
        return
    here, there = parameters(of_async), parameters(of_job)
    assert here == there
    if name not in OTHER_PARAMETERS:
        annotations = {each.name: str(each.annotation) for each in inspect.signature(of_job).parameters.values()}
        assert {each.name: str(each.annotation) for each in inspect.signature(of_async).parameters.values()} == (
            annotations
        )


def test_the_parameters_of_the_classes_are_the_same() -> None:
    assert inspect.signature(AsyncJob) == inspect.signature(Job)


@pytest.mark.parametrize(("name", "of_job", "of_async"), list(both()))
def test_the_text_is_the_same_or_begins_with_it(name: str, of_job: Any, of_async: Any) -> None:
    text, derived = inspect.getdoc(of_job), inspect.getdoc(of_async)
    assert text
    assert derived
    assert derived.startswith(text)


def test_the_text_of_the_class_begins_with_that_of_job() -> None:
    assert Job.__doc__
    assert (AsyncJob.__doc__ or "").startswith(inspect.cleandoc(Job.__doc__))


@pytest.mark.parametrize(("name", "of_job", "of_async"), list(both()))
def test_what_may_wait_is_awaited_and_the_rest_is_not(name: str, of_job: Any, of_async: Any) -> None:
    if isinstance(of_job, property):
        assert inspect.iscoroutinefunction(of_async.fget) == (name == "nodes"), "only `nodes` asks the database"
    else:
        assert inspect.iscoroutinefunction(of_async) == (name not in LOCAL | GIVES_SOMETHING_ASYNC)


def test_the_tables_above_name_nothing_that_is_gone() -> None:
    assert {*OTHER_PARAMETERS, *LOCAL, *GIVES_SOMETHING_ASYNC} <= public(Job)


def test_nobody_wrote_a_method_of_the_async_class_twice() -> None:
    """What passes through carries the function that it stands for, so that a change of `Job` cannot leave it behind."""
    passed = [name for name, of_job, of_async in both() if getattr(of_async, "__wrapped__", None) is of_job]
    assert {"can_claim_task", "get_audit", "register_lock", "set_claim"} <= set(passed)
