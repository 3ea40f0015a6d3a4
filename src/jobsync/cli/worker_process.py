"""One process of `jobsync worker`: `python -m jobsync.cli.worker_process TARGET [OPTIONS]`.

TARGET names a ProcessingWorker, a subclass of it, or a function without arguments that gives one. OPTIONS is a JSON
object of what the command line says. Without it the target is only looked up. An error in finding or making the worker,
or of the library itself, is one line on stderr.
"""

import inspect
import json
import logging
import queue
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from jobsync import InvalidArgument, JobsyncError, ProcessingWorker
from jobsync.cli.processes import watch_lifeline
from jobsync.cli.targets import find_attribute
from jobsync.core.log_events import Event, marks

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LOOK_SEC = 0.2
EXAMPLE = "module:attribute, such as myapp.jobs:worker"

log = logging.getLogger("jobsync")

Maker = Callable[[dict[str, Any]], ProcessingWorker]


def find_worker(target: str) -> Maker:
    """Find what makes the worker; called with the command line's options. Raises InvalidArgument."""
    found = find_attribute(target, EXAMPLE)
    if isinstance(found, ProcessingWorker):
        return lambda options: _adjusted(found, options)
    if isinstance(found, type):
        if not issubclass(found, ProcessingWorker):
            raise InvalidArgument(f"{target!r} is the class {found.__name__}, which is no subclass of ProcessingWorker")
        return lambda options: _made(found, options, target)
    if callable(found):
        return lambda options: _adjusted(_called(found, target), options)
    raise InvalidArgument(
        f"{target!r} is {_a(found)}: name a ProcessingWorker, a subclass of it, or a function that gives one"
    )


def _made(worker_class: type[ProcessingWorker], options: dict[str, Any], target: str) -> ProcessingWorker:
    """Make a worker of the user's class, with the options that its signature takes."""
    try:
        inspect.signature(worker_class).bind(**options)
    except TypeError as error:
        raise InvalidArgument(f"{target!r} cannot be made with {_named(options)}: {error}") from None
    return worker_class(**options)


def _called(function: Callable[[], object], target: str) -> ProcessingWorker:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InvalidArgument(f"{target!r} has to be callable without arguments: {error}") from None
    made = function()
    if not isinstance(made, ProcessingWorker):
        raise InvalidArgument(f"{target!r} gave {_a(made)}: let it give a ProcessingWorker")
    return made


def _adjusted(worker: ProcessingWorker, options: dict[str, Any]) -> ProcessingWorker:
    """Let the command line's options win over those that the worker was made with."""
    if options:
        worker.adjust(**options)
    return worker


def _named(options: dict[str, Any]) -> str:
    return ", ".join(options) or "no arguments"


def _a(thing: object) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def run(worker: ProcessingWorker) -> None:
    """Run the worker until SIGTERM or SIGINT, or until it is stopped from within; a second signal ends it at once."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()

    def hear(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
        # The handler interrupts the main thread anywhere: all that is safe here is to put a word into this queue.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        heard.put(number)

    for number in SIGNALS:
        signal.signal(number, hear)
    worker.start()
    log.info(
        "worker %s runs up to %d jobs at once",
        worker.worker_id,
        worker.get_status().max_concurrent_jobs,
        extra=marks(Event.WORKER_BEGAN, worker=worker.worker_id, slots=worker.get_status().max_concurrent_jobs),
    )
    while not worker.wait(LOOK_SEC):
        if not heard.empty():
            log.info(
                "worker %s was told to stop: it lets its jobs finish",
                worker.worker_id,
                extra=marks(Event.WORKER_TOLD_TO_STOP, worker=worker.worker_id),
            )
            left = "" if worker.stop() else "; handlers that did not end in time were left, and their jobs released"
            log.info(
                "worker %s has stopped%s",
                worker.worker_id,
                left,
                extra=marks(Event.WORKER_STOPPED, worker=worker.worker_id),
            )


def main(arguments: list[str]) -> int:
    """Look the target up and, with options, run the worker until it is told to stop."""
    target, *rest = arguments
    try:
        make = find_worker(target)
        if not rest:
            return 0
        watch_lifeline()
        run(make(json.loads(rest[0])))
    except JobsyncError as error:
        sys.stderr.write(f"jobsync: {' '.join(str(error).split())}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
