"""Who owns time and concurrency: the thread that keeps a lease alive, and the threads of the application's side.

Theory of operation. One engine thread a node owns the member, the session and the wait; it is the only one that touches
either. Readers in any thread take one immutable value, `engine.standing`, and evaluate its ends with their own reading
of the clocks. The application's callbacks run on a second thread, what was claimed and done is written by a third, each
started when it is first needed. They speak to the engine through its inbox, and never the other way round.

Authoritative: `clock` is the only place that reads clocks (and `answers`, for speed). Not promised: that a callback
runs within any time; the hand-over that waits for it is bounded.
"""

from typing import TYPE_CHECKING, Final

from jobsync.core.first_use import at_first_use

if TYPE_CHECKING:
    from jobsync.runtime.answers import make_owns
    from jobsync.runtime.leadership import Lead, LeadingNode, Singleton, leading
    from jobsync.runtime.ledger import Ledger
    from jobsync.runtime.lock_desk import LockDesk
    from jobsync.runtime.node import Node
    from jobsync.runtime.place import Doorway
    from jobsync.runtime.shared_nodes import NODES
    from jobsync.runtime.solo import SoloLedger, SoloNode
    from jobsync.runtime.transactions import OwnedWork, owned_transaction
    from jobsync.runtime.visitor import Visitor

__all__ = [
    "NODES",
    "Doorway",
    "Lead",
    "LeadingNode",
    "Ledger",
    "LockDesk",
    "Node",
    "OwnedWork",
    "Singleton",
    "SoloLedger",
    "SoloNode",
    "Visitor",
    "leading",
    "make_owns",
    "owned_transaction",
]

# What the api uses once a job is entered, and no sooner: see "What is loaded when" in ARCHITECTURE.md.
_HOMES: Final = {
    "jobsync.runtime.answers": "make_owns",
    "jobsync.runtime.leadership": "Lead LeadingNode Singleton leading",
    "jobsync.runtime.ledger": "Ledger",
    "jobsync.runtime.lock_desk": "LockDesk",
    "jobsync.runtime.node": "Node",
    "jobsync.runtime.place": "Doorway",
    "jobsync.runtime.shared_nodes": "NODES",
    "jobsync.runtime.solo": "SoloLedger SoloNode",
    "jobsync.runtime.transactions": "OwnedWork owned_transaction",
    "jobsync.runtime.visitor": "Visitor",
}

if not TYPE_CHECKING:  # A type checker that saw it would take every name for one of these.
    __getattr__ = at_first_use(globals(), _HOMES)
