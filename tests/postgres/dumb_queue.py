"""A queue that is too simple to be wrong: dictionaries, one thread, every rule written once, no thought of speed."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from tests.postgres.queue_hands import LEASE_SEC

Scope: TypeAlias = tuple[str, str]


@dataclass
class DumbJob:
    """One job; `state` is ready, gated, later, running, done, failed or cancelled."""

    id: int
    lane: int
    kind: str
    priority: int
    max_attempts: int
    job_id: str | None
    affinity: str | None
    limit_key: str | None
    state: str = "ready"
    attempts: int = 0
    crashes: int = 0
    run_at: datetime | None = None
    finished_at: datetime | None = None
    epoch: int | None = None

    @property
    def status(self) -> str:
        if self.state in {"ready", "gated", "later"}:
            return "pending" if self.attempts == 0 else "retry"
        return "processing" if self.state == "running" else self.state

    @property
    def ended(self) -> bool:
        return self.state in {"done", "failed", "cancelled"}


@dataclass
class DumbQueue:
    """The contract of the functions, in Python."""

    jobs: dict[int, DumbJob] = field(default_factory=dict)
    places: dict[Scope, dict[int, int]] = field(default_factory=dict)
    limits: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    until: dict[int, datetime] = field(default_factory=dict)  # of leases, by epoch
    max_crashes: dict[int, int] = field(default_factory=dict)  # of leases that were taken singly
    owner: dict[int, int] = field(default_factory=dict)  # the node of a lease
    paused: bool = False
    dead: set[int] = field(default_factory=set)

    # --- waiting and leaving ---------------------------------------------------------------------

    def wait(self, job: DumbJob, run_at: datetime | None, now: datetime) -> None:
        job.run_at, job.epoch, job.finished_at = None, None, None
        if run_at is not None and run_at > now:
            job.state, job.run_at = "later", run_at
        elif job.affinity or job.limit_key or job.crashes or job.attempts + 1 >= job.max_attempts:
            job.state = "gated"
        else:
            job.state = "ready"
        self.leave(job, keep_line=job.attempts > 0)

    def leave(self, job: DumbJob, *, keep_line: bool) -> None:
        for (scope, _), held in self.places.items():
            if scope == "affinity" and keep_line:
                continue
            for number in [n for n, id_ in held.items() if id_ == job.id]:
                del held[number]

    def finish(self, job: DumbJob, state: str, now: datetime) -> None:
        job.state, job.finished_at, job.run_at = state, now, None
        self.leave(job, keep_line=False)

    # --- taking ----------------------------------------------------------------------------------

    def take(self, want: int, node: int) -> list[int]:
        if self.paused or node in self.dead:
            return []
        for job in self.jobs.values():
            if job.state == "ready" and job.kind in self.limits:
                job.state = "gated"
        ready = sorted((-job.priority, job.id) for job in self.jobs.values() if job.state == "ready")
        return [id_ for _, id_ in ready[:want]]

    def take_gated(self, want: int, node: int, *, suspects: bool) -> list[int]:
        if self.paused or node in self.dead:
            return []
        taken: list[int] = []
        gated = sorted((-job.priority, job.id) for job in self.jobs.values() if job.state == "gated")
        heads = self._heads()
        for _, id_ in gated:
            job = self.jobs[id_]
            if len(taken) == want or (job.crashes and not suspects):
                continue
            if job.affinity and heads[job.affinity] != id_:
                continue
            if self._enter(job):
                taken.append(id_)
                suspects = suspects and not job.crashes
        return taken

    def _heads(self) -> dict[str, int]:
        heads: dict[str, int] = {}
        for job in sorted(self.jobs.values(), key=lambda job: job.id):
            if job.state == "gated" and job.affinity:
                heads.setdefault(job.affinity, job.id)
        for (scope, name), held in self.places.items():
            if scope == "affinity" and held:
                heads[name] = held[1]  # It has begun: whoever came with a smaller number meanwhile stands behind it.
        return heads

    def _enter(self, job: DumbJob) -> bool:
        at_once, per_key = self.limits.get(job.kind, (None, None))
        wanted: list[tuple[Scope, int]] = []
        if job.affinity:
            wanted.append((("affinity", job.affinity), 1))
        if at_once:
            wanted.append((("kind", job.kind), at_once))
        if per_key and job.limit_key:
            wanted.append((("key", f"{job.kind}\t{job.limit_key}"), per_key))
        for scope, most in wanted:
            held = self.places.setdefault(scope, {})
            if job.id not in held.values() and len(held) >= most:
                return False
        for scope, most in wanted:
            held = self.places[scope]
            if job.id not in held.values():
                held[min(set(range(1, most + 1)) - held.keys())] = job.id
        return True

    def begin(self, id_: int, epoch: int, node: int, now: datetime) -> None:
        job = self.jobs[id_]
        job.state, job.attempts, job.epoch = "running", job.attempts + 1, epoch
        self.until[epoch] = now + timedelta(seconds=LEASE_SEC)
        self.owner[epoch] = node

    # --- ending ----------------------------------------------------------------------------------

    def runs(self, id_: int, epoch: int) -> bool:
        job = self.jobs.get(id_)
        return job is not None and job.state == "running" and job.epoch == epoch

    def end(self, id_: int, outcome: str, run_at: datetime | None, now: datetime) -> None:
        job = self.jobs[id_]
        if outcome in {"retry", "pending"}:
            job.attempts -= outcome == "pending"
            self.wait(job, run_at, now)
        else:
            self.finish(job, outcome, now)

    def recover(self, now: datetime) -> int:
        lost = [e for e, until in self.until.items() if until <= now or self.owner[e] in self.dead]
        jobs = [job for job in self.jobs.values() if job.state == "running" and job.epoch in lost]
        for job in jobs:
            job.crashes += 1
            most = self.max_crashes.get(job.epoch or 0)
            if most is not None and (job.crashes >= most or job.attempts >= job.max_attempts):
                self.finish(job, "failed", now)
            else:
                self.wait(job, None, now)
        for epoch in lost:
            del self.until[epoch]
        return len(jobs)

    # --- operators -------------------------------------------------------------------------------

    def cancel(self, id_: int, now: datetime) -> bool:
        job = self.jobs.get(id_)
        if job is None or job.ended:
            return False
        self.finish(job, "cancelled", now)
        return True

    def retry(self, id_: int, now: datetime) -> bool:
        job = self.jobs.get(id_)
        if job is None or not (job.ended or job.state == "later"):
            return False
        if job.ended:
            job.attempts = job.crashes = 0
        self.wait(job, None, now)
        return True

    def promote(self, now: datetime) -> datetime | None:
        for job in self.jobs.values():
            if job.state == "later" and job.run_at is not None and job.run_at <= now:
                self.wait(job, None, now)
        return min((job.run_at for job in self.jobs.values() if job.run_at is not None), default=None)

    def forget(self, id_: int) -> None:
        self.leave(self.jobs.pop(id_), keep_line=False)
