"""The nodes of this process: jobs of one name and one fleet share one.

One lease and one set of tokens a name; whoever enters first brings the node into the fleet, whoever exits last takes
it out. Entering and exiting of one name wait for each other, so that a job that comes while the last one leaves does
not meet its own row. A forked child shares nothing: the nodes are its parent's.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobsync.core.errors import ConfigMismatch
from jobsync.core.setting_rules import RULES
from jobsync.core.settings import Settings
from jobsync.runtime.node import Node

_WHERE = ("dsn", "host", "port", "dbname")


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes two jobs one node: the name, the database and the prefix."""

    name: str
    prefix: str
    where: tuple[object, ...]


@dataclass(slots=True)
class _Entry:
    # Reentrant, since a signal handler may exit a job while its thread is in here for another one.
    lock: threading.RLock = field(default_factory=threading.RLock)
    node: Node | None = None
    jobs: int = 0


class SharedNodes:
    """Hands out the nodes of one process, and counts who uses them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[_Key, _Entry] = {}

    @contextmanager
    def entering(self, name: str, settings: Settings, *, environment: str | None) -> Iterator[tuple[Node, bool]]:
        """Give the node and whether it is new; others of the name wait until the block is over.

        Every node given must come back by `leave`. Raises ConfigMismatch when the node has other settings.
        """
        entry = self._entry(_key(name, settings))
        with entry.lock:
            is_new = entry.node is None or entry.node.has_ended
            if entry.node is None or is_new:
                # Jobs that still use a node which ended by itself leave that one, and do not count here.
                entry.node, entry.jobs = Node(name, settings, environment=environment), 0
            else:
                _refuse_other_settings(entry.node, settings)
            entry.jobs += 1
            yield entry.node, is_new

    def leave(self, node: Node) -> bool:
        """Give a node back; the last one to do so takes it out of the fleet. True unless that went badly."""
        entry = self._entry(_key(node.name, node.settings))
        with entry.lock:
            if entry.node is not node:
                return node.leave()
            entry.jobs -= 1
            if entry.jobs:
                return True
            try:
                return node.leave()
            finally:
                entry.node = None

    def _entry(self, key: _Key) -> _Entry:
        with self._lock:
            return self._entries.setdefault(key, _Entry())

    def forget(self) -> None:
        """Begin anew, in a forked child."""
        self._lock = threading.RLock()
        self._entries = {}


def _key(name: str, settings: Settings) -> _Key:
    return _Key(name, settings.prefix, tuple(getattr(settings, each) for each in _WHERE))


def _refuse_other_settings(node: Node, settings: Settings) -> None:
    other = [name for name in RULES if getattr(node.settings, name) != getattr(settings, name)]
    if other:
        shown = ", ".join(_difference(name, node.settings, settings) for name in other)
        raise ConfigMismatch(
            f"node {node.name!r} runs in this process already with other settings: {shown}; "
            "give both jobs the same, or another name"
        )


def _difference(name: str, running: Settings, given: Settings) -> str:
    there, here = (RULES[name].shown(getattr(each, name)) for each in (running, given))
    # What may not be printed looks the same from both sides.
    return f"{name} differs" if there == here else f"{name} is {there}, not {here}"


NODES = SharedNodes()
os.register_at_fork(after_in_child=NODES.forget)
