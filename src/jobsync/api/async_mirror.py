"""Making the methods of `AsyncJob` of those of `Job`: one source for names, parameters and texts.

A method either answers from what is known here, and passes straight through, or may wait for the database or another
thread, and is awaited. Which it is is decided once, in `jobsync.api.async_job`.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import cleandoc
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class StandsOnJob(Protocol):
    """What has a `Job` below it."""

    def _local(self, name: str) -> Any:
        """Give an attribute of the job below."""

    async def _waited(self, function: Callable[[], R]) -> R:
        """Have a function done by a thread that may wait."""


def local(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Pass a call through to the job: it waits for nothing."""
    name = method.__name__

    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._local(name)(*args, **kwargs)
        return result

    return cast("Callable[Concatenate[Any, P], R]", wraps(method)(call))


def awaited(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """Make a coroutine function of a method that may wait."""
    name = method.__name__

    async def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        function: Callable[..., R] = self._local(name)
        result: R = await self._waited(lambda: function(*args, **kwargs))
        return result

    return cast("Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]", wraps(method)(call))


def parameters_of(
    method: Callable[Concatenate[Any, P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give a function the parameters and the text of a method whose arguments it passes on."""

    def decorate(function: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        return cast("Callable[Concatenate[Any, P], None]", wraps(method)(function))

    return decorate


def described_by(method: object) -> Callable[[F], F]:
    """Put the text of a method of `Job` before the function's own, which says what is different for asyncio."""

    def decorate(function: F) -> F:
        function.__doc__ = "\n\n".join(cleandoc(each) for each in (method.__doc__, function.__doc__) if each)
        return function

    return decorate


class local_property(property, Generic[R]):  # noqa: N801 - it stands where `property` does
    """A property of the job, passed through: `name = local_property[type](Job.name)`."""

    def __init__(self, of: object) -> None:
        assert isinstance(of, property)
        assert of.fget is not None
        name = of.fget.__name__

        def get(self: Any) -> Any:
            return self._local(name)

        super().__init__(wraps(of.fget)(get))

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> "local_property[R]": ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> R: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Give the job's value."""
        return super().__get__(instance, owner)
