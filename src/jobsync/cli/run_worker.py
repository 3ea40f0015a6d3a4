"""One worker of `jobsync run`: `python -m jobsync.cli.run_worker TARGET [NAME [RUN]]`.

Without a name it only looks the target up. An error in finding the target, or of the library itself, is one line on
stderr; an exception of the user's function is the user's, and shows its traceback.
"""

import logging
import sys
from collections.abc import Callable
from importlib import import_module

from jobsync import CoordinationConfig, InvalidArgument, Job, JobsyncError
from jobsync.cli.processes import watch_lifeline


def find_target(target: str) -> Callable[[Job], object]:
    """Import `module:function`. Raises InvalidArgument that says what is wrong with it."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise InvalidArgument(f"{target!r} is no target: give module:function, such as myapp.worker:main")
    found: object = _imported(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise InvalidArgument(f"module {module_name!r} has no {path!r}: check the part after the colon")
        found = getattr(found, name)
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


def main(arguments: list[str]) -> int:
    """Look the target up and, with a name, run it as a node of the fleet."""
    target, *rest = arguments
    try:
        function = find_target(target)
        if not rest:
            return 0
        watch_lifeline()
        name, run = rest[0], rest[1] if len(rest) > 1 else None
        job = Job(name, coordination_config=CoordinationConfig.from_env(), run=run, handle_signals=True)
        with job:
            function(job)
    except JobsyncError as error:
        sys.stderr.write(f"jobsync: {' '.join(str(error).split())}\n")
        return 2
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    sys.exit(main(sys.argv[1:]))
