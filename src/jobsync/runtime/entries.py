"""Entries of a ledger: tasks, each with the registration that has claimed it."""

from collections.abc import Iterable, Iterator
from itertools import islice


def batches(entries: dict[str, int], size: int) -> Iterator[dict[str, int]]:
    """Cut entries into pieces of so many."""
    items = iter(list(entries.items()))
    while batch := dict(islice(items, size)):
        yield batch


def by_holder(entries: dict[str, int]) -> Iterable[tuple[int, list[str]]]:
    """Give the tasks of each registration."""
    held: dict[int, list[str]] = {}
    for item, holder in entries.items():
        held.setdefault(holder, []).append(item)
    return held.items()


def nobody() -> int:
    """Give the registration that stands for none."""
    return 0
