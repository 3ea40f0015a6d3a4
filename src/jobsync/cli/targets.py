"""Find what a command is to run: `module:attribute`, as users write it."""

from collections.abc import Callable
from importlib import import_module

from jobsync import InvalidArgument, Job


def find_attribute(target: str, example: str) -> object:
    """Import `module:attribute`. Raises InvalidArgument that says what is wrong with it."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise InvalidArgument(f"{target!r} is no target: give {example}")
    found: object = _imported(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise InvalidArgument(f"module {module_name!r} has no {path!r}: check the part after the colon")
        found = getattr(found, name)
    return found


def find_function(target: str) -> Callable[[Job], object]:
    """Find the function of `jobsync run`."""
    found = find_attribute(target, "module:function, such as myapp.worker:main")
    if not callable(found):
        raise InvalidArgument(f"{target!r} is not callable: name a function that takes the job")
    return found


def _imported(module_name: str) -> object:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise InvalidArgument(
                f"there is no module {module_name!r} here: call this from the directory that holds it, or install it"
            ) from None
        raise InvalidArgument(f"module {module_name!r} cannot be imported: {error}") from None
    except Exception as error:  # noqa: BLE001 - importing runs code of the user's, which may raise anything
        raise InvalidArgument(f"module {module_name!r} cannot be imported: {type(error).__name__}: {error}") from None
