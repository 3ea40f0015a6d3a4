"""The states of a job and the ways between them: the one list from which diagrams are drawn and SQL is tested."""

from dataclasses import dataclass
from typing import Final

PENDING: Final = "pending"
PROCESSING: Final = "processing"
RETRY: Final = "retry"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

WAITING: Final = (PENDING, RETRY)
ENDED: Final = (DONE, FAILED, CANCELLED)
NOWHERE: Final = "[*]"  # Before a job is stored, and after it was deleted; as Mermaid writes it.


@dataclass(frozen=True, slots=True)
class Transition:
    """One way from a status to another: what brings it about, and what becomes of the counts.

    `charged` is what the attempts grow by, `crashed` what the crashes grow by.
    """

    before: str
    after: str
    cause: str
    charged: int = 0
    crashed: int = 0


# Attempts grow when a job is taken, and shrink when it is given back without having failed. A job that was given back
# waits as what it was before: `retry` once an attempt was charged, else `pending`.
TRANSITIONS: Final = (
    Transition(NOWHERE, PENDING, "enqueued"),
    Transition(PENDING, PROCESSING, "taken", charged=1),
    Transition(RETRY, PROCESSING, "taken", charged=1),
    Transition(PROCESSING, DONE, "handler returned"),
    Transition(PROCESSING, RETRY, "handler raised, attempts left"),
    Transition(PROCESSING, FAILED, "handler raised, no attempt left"),
    Transition(PROCESSING, CANCELLED, "handler raised Cancel"),
    Transition(PROCESSING, CANCELLED, "cancelled"),
    Transition(PROCESSING, RETRY, "lease lost, attempts and crashes left", crashed=1),
    Transition(PROCESSING, FAILED, "lease lost, no attempt or crash left", crashed=1),
    Transition(PROCESSING, PENDING, "given back, the first attempt", charged=-1),
    Transition(PROCESSING, RETRY, "given back, a later attempt", charged=-1),
    Transition(PENDING, CANCELLED, "cancelled"),
    Transition(RETRY, CANCELLED, "cancelled"),
    Transition(DONE, PENDING, "asked to run again"),
    Transition(FAILED, PENDING, "asked to run again"),
    Transition(CANCELLED, PENDING, "asked to run again"),
    Transition(DONE, NOWHERE, "pruned"),
    Transition(FAILED, NOWHERE, "pruned"),
    Transition(CANCELLED, NOWHERE, "pruned"),
)


def causes(before: str, after: str) -> tuple[str, ...]:
    """Give what leads from one status to another; nothing where no way leads."""
    return tuple(each.cause for each in TRANSITIONS if (each.before, each.after) == (before, after))


def as_mermaid() -> str:
    """Draw the table as a Mermaid state diagram, one arrow for each pair of states."""
    pairs = dict.fromkeys((each.before, each.after) for each in TRANSITIONS)
    arrows = (f"    {before} --> {after}: {'; '.join(causes(before, after))}" for before, after in pairs)
    return "\n".join(["stateDiagram-v2", *arrows])
