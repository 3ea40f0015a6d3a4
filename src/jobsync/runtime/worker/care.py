"""What a worker looks after beside its jobs: leases to extend, what others lost, what is due, what is old."""

import json
import logging
from typing import TYPE_CHECKING, Final

from jobsync.core.log_events import Event, marks
from jobsync.core.messages import Fact, FactKind
from jobsync.postgres.leases import Look
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.periodic import Periodic
from jobsync.runtime.worker.kinds import Lane

if TYPE_CHECKING:
    from jobsync.runtime.worker.hub import Hub

log = logging.getLogger("jobsync")

LOOK_EVERY_SEC: Final = 0.1  # At most, however much is heard.
POLLS_WHERE_HEARD: Final = 12  # Where notifications arrive, polling is the net under them.
FIRST_PRUNE_SEC: Final = 60.0
PRUNE_EVERY_SEC: Final = 3600.0
PRUNED_AT_ONCE: Final = 1000
NEVER: Final = float("inf")


class Care:
    """The times at which one worker looks after things, and what it finds."""

    def __init__(self, hub: "Hub") -> None:
        self.lanes: dict[int, Lane] = {}
        self.lanes_text = "{}"
        self._hub = hub
        self._lanes_known = -1
        self._incarnation = 0
        self._looked_sec = 0.0
        self._next_due_sec = NEVER
        self._has_heard = False
        self._prune_due_sec = NEVER
        self._periodic = Periodic(hub.node.settings.prefix, lambda: self._incarnation, self._leads)

    def _leads(self) -> bool:
        holding = self._hub.node.holding
        return holding is not None and holding.leads_under is not None

    # --- the beginning and the end -----------------------------------------------------------------

    def arrive(self) -> None:
        """Take back what others lost, learn the lanes, and say that this worker lives."""
        self._hub.line.run(self._hub.leases.recover())
        self._enter()
        self._learn_lanes()
        self._look()
        if self._hub.terms.keep_days is not None:
            self._prune_due_sec = boot_sec() + FIRST_PRUNE_SEC

    def depart(self) -> None:
        """Say that it lives no more."""
        if self._incarnation and self._hub.line.is_open:
            self._hub.line.run(self._hub.leases.leave(self._incarnation))

    def heard(self) -> None:
        """Something happened somewhere: jobs came, or were cancelled, or somebody died."""
        self._has_heard = True

    # --- from time to time -------------------------------------------------------------------------

    @property
    def due_sec(self) -> float:
        """When something is to be seen to."""
        if self._hub.is_stopping:  # What is left undone then is not waited for.
            return self._look_due_sec
        return min(self._look_due_sec, self._prune_due_sec, self._periodic.due_sec)

    @property
    def _look_due_sec(self) -> float:
        polls = POLLS_WHERE_HEARD if self._hub.node.hears_jobs else 1
        heard_sec = self._looked_sec + LOOK_EVERY_SEC if self._has_heard else NEVER
        return min(heard_sec, self._next_due_sec, self._looked_sec + self._hub.terms.poll_sec * polls)

    def see_to(self, now_sec: float) -> bool:
        """See to whatever is due; True if anything was."""
        hub = self._hub
        seen = False
        if hub.node.incarnation not in {0, self._incarnation}:
            self._enter()
        if now_sec >= hub.holdings.extend_due_sec:
            self._extend(now_sec)
            seen = True
        if now_sec >= self._look_due_sec:
            self._has_heard = False
            self._ask_what_is_lost()
            self._look()
            seen = True
        if now_sec >= self._prune_due_sec and not hub.is_stopping:
            self._prune(now_sec)
            seen = True
        if now_sec >= self._periodic.due_sec and not hub.is_stopping:
            self._periodic.fire_due(lambda work: hub.line.run(work)[0])
            seen = True
        return seen

    def _enter(self) -> None:
        hub = self._hub
        knowledge = hub.terms.knowledge
        self._incarnation = hub.node.incarnation
        kinds = json.dumps(knowledge.kinds)
        hub.line.run(hub.leases.enter(self._incarnation, hub.node.name, json.dumps(knowledge.queues), kinds))

    def _learn_lanes(self) -> None:
        hub, knowledge = self._hub, self._hub.terms.knowledge
        (rows,) = hub.line.run(hub.leases.lanes(knowledge.queues, knowledge.kinds))
        self.lanes = {number: Lane(number, queue, kind, knowledge.handler_of(kind)) for number, queue, kind, _ in rows}
        self.lanes_text = "{" + ",".join(map(str, self.lanes)) + "}"

    def _look(self) -> None:
        hub = self._hub
        self._looked_sec = boot_sec()
        was_due = self._looked_sec >= self._next_due_sec
        (rows,) = hub.line.run(hub.leases.look(self.lanes_text, hub.node.name))
        look = Look.of(rows)
        self._next_due_sec = NEVER if look.next_due_sec is None else boot_sec() + max(0.0, look.next_due_sec)
        if look.steered != hub.steered:
            hub.steer(look.steered)
        if look.lanes != self._lanes_known:
            self._learn_lanes()
            self._lanes_known = look.lanes
            hub.look_for_more()
        elif was_due or look.any_due or look.recovered or look.any_ready or look.any_gated:
            hub.look_for_more()
        if look.recovered:
            text = f"worker {hub.terms.worker_id!r} took back {look.recovered} jobs that lost their leases"
            hub.node.say(Fact(FactKind.JOBS_RECOVERED, text, count=look.recovered))

    def _extend(self, now_sec: float) -> None:
        hub = self._hub
        held = dict(hub.holdings.leases)
        incarnation = hub.node.incarnation
        (rows,) = hub.line.run(hub.leases.extend(incarnation, list(held)))
        standing: dict[int, list[int]] = dict(rows)
        for epoch in standing:
            held[epoch].until_sec = hub.holdings.until_sec(now_sec)
        if hub.holdings.lose(lease for epoch, lease in held.items() if epoch not in standing):
            hub.drop_lost()
        self._ask_what_is_lost()

    def _ask_what_is_lost(self) -> None:
        """Ask which of the running jobs are others' now, or were cancelled, and tell their handlers."""
        hub = self._hub
        running = [job for job in hub.slots.running() if not job.lost and not job.has_ended]
        if not running:
            return
        (rows,) = hub.line.run(hub.leases.still_mine([job.as_attempt() for job in running]))
        mine = {row[0] for row in rows}
        told = set(hub.slots.done).union(job for job, _ in hub.reports.ended)
        for job in running:
            if job.id in mine or job in told or job.has_ended or job.is_ending:
                continue
            if job in hub.slots.running():
                job.lose()
                hub.slots.cancel(job)
                if job.crashes:
                    hub.gate.heard()  # The one place of a suspect is free.
                log.warning(
                    "%r was cancelled, or is another worker's now: its handler is told to stop",
                    job,
                    extra=marks(Event.JOB_TAKEN_AWAY, job=job.id, kind=job.kind),
                )

    def _prune(self, now_sec: float) -> None:
        days = self._hub.terms.keep_days
        assert days is not None
        (rows,) = self._hub.line.run(self._hub.leases.prune(days, PRUNED_AT_ONCE))
        full = rows[0][0] >= PRUNED_AT_ONCE
        self._prune_due_sec = now_sec + (LOOK_EVERY_SEC if full else PRUNE_EVERY_SEC)
