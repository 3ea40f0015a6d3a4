"""A fleet in virtual time: the real members and the real SQL, in a world of which one seed decides everything.

Theory of operation. Every node is a `core.Member`, fed with events and relieved of effects as the engine does it, on
clocks that drift and jump. Every question travels over a network that delays, loses and breaks, is carried out by
PostgreSQL itself (`postgres.virtual_server`), at an instant that the world chose, and its answer travels back.
Applications hold on to tokens and write in transactions of their own. Nothing waits: time is the next entry of an
agenda.

Authoritative: PostgreSQL for rows, `Checkers` for what may never happen. The checkers stand apart: they know what nodes
would answer and what the database shows, and take no part in any decision.

Deterministic: one `Random` of one seed. Nothing comes from wall time, from process ids, from the order of sets, or from
how long anything really took; a seed replays to the same trace, byte for byte, on any machine.

Not simulated: the engine's thread and sockets, two statements at work at the same instant, PostgreSQL's own recovery.
Tests with real processes hold that end.
"""

from jobsync.simulation.checkers import Violated
from jobsync.simulation.seeds import Outcome, replay, run_seed

__all__ = ["Outcome", "Violated", "replay", "run_seed"]
