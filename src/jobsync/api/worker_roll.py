"""The workers of this process: one of a name on each node, for the database tells them apart by it; none in a fork."""

import os
import threading
import weakref
from typing import Protocol

from jobsync.core.errors import NodeNameInUse
from jobsync.runtime.node import Node


class Enrolled(Protocol):
    """What the roll asks of a worker."""

    worker_id: str
    _node: Node | None

    def _disown(self) -> None: ...


_ENROLLING = threading.Lock()
_WORKERS: "weakref.WeakSet[Enrolled]" = weakref.WeakSet()


def enter(worker: Enrolled) -> None:
    """Take note of a worker that was made."""
    _WORKERS.add(worker)


def enrol(worker: Enrolled, node: Node) -> None:
    """Take the worker's name on its node, for as long as it runs. Raises NodeNameInUse where another has it."""
    with _ENROLLING:
        for other in list(_WORKERS):
            if other is not worker and other._node is node and other.worker_id == worker.worker_id:  # noqa: SLF001
                raise NodeNameInUse(
                    f"worker {worker.worker_id!r} runs on node {node.name!r} of this process already: give the "
                    "second one another worker_id, or leave it out"
                )
        worker._node = node  # noqa: SLF001 - the roll keeps it with the worker


def _disown_all() -> None:
    for worker in list(_WORKERS):
        worker._disown()  # noqa: SLF001


os.register_at_fork(after_in_child=_disown_all)
