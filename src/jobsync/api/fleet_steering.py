"""Steering a fleet: cordon, drain, freeze, resume; locks; pruning. What is asked is recorded, with who and when."""

from collections.abc import Sequence

from jobsync.api.checks import checked_name, checked_seconds
from jobsync.api.fleet_access import FleetAccess
from jobsync.api.fleet_status import Steered
from jobsync.api.fleet_values import NodeLoad, Pruned
from jobsync.api.lock_checks import checked_days, checked_patterns
from jobsync.core.errors import InvalidArgument
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.core.pins import NewLock
from jobsync.core.queue.new_job import checked_text
from jobsync.core.queue.steering import checked_days as checked_retention
from jobsync.core.tasks import as_task
from jobsync.postgres.locks import LockStatements
from jobsync.postgres.overview import list_nodes, read_cluster
from jobsync.postgres.queue_admin import PRUNE_AT_MOST
from jobsync.postgres.records import Records
from jobsync.postgres.statement import call, statement

MOST_STEPS = 10_000


class FleetSteering(FleetAccess):
    """The part of `Cluster` that steers. Each method commits at once, and takes effect with the leader's next plan.

    `by` is written down for others to see; by default the database role that asks.
    """

    # --- nodes and the fleet ---------------------------------------------------------------------

    def cordon(self, node: str, *, reason: str | None = None, by: str | None = None) -> bool:
        """Give a node no new tokens and no new jobs, until `resume`; False where it was cordoned already.

        It keeps what it has. It holds for the name: a node that comes back under it is cordoned, too. Raises
        InvalidArgument for a name that no node of the fleet has.
        """
        return self._steer("cordon", self._known_node(node), reason, by, None)

    def drain(
        self, node: str, for_sec: float | None = None, *, reason: str | None = None, by: str | None = None
    ) -> bool:
        """Cordon a node and have it hand over all it has: tokens, the right to lead, jobs that it has not begun.

        Where no other node may take its tokens it keeps them until one may. Its process goes on; stop it when it holds
        nothing. It ends after so many seconds, or with `resume`. False where it was drained until resumed already.
        Raises InvalidArgument for a name that no node has.
        """
        seconds = _checked_length(for_sec)
        return self._steer("drain", self._known_node(node), reason, by, seconds)

    def freeze(self, for_sec: float | None = None, *, reason: str | None = None, by: str | None = None) -> bool:
        """Let joins, leaves and changes of locks move no tokens, for so many seconds or until `resume`.

        Tokens of the certainly dead are still taken over. A node that leaves has its place kept: its tokens are
        nobody's until it is back under its name, or the freeze ends. False where it is frozen until resumed already.
        """
        return self._steer("freeze", None, reason, by, _checked_length(for_sec))

    def resume(self, node: str | None = None, *, everything: bool = False, by: str | None = None) -> list[Steered]:
        """End what was asked of a node; without a name, the freeze; or everything. Give what was ended."""
        self._require_schema()
        if node is not None:
            node = checked_name("node", node)
            if everything:
                raise InvalidArgument("name a node, or resume everything, not both")
        in_force = self.steering()
        types = ("text", "boolean", "text")
        ended = self._inquiry.run(call("resume", self._prefix, node, everything, _by(by), types=types))
        return [each for each in in_force if (each.verb, each.node) in ended]

    def load_of(self, node: str) -> NodeLoad:
        """Count what a node still has: what a drain waits for."""
        self._require_schema()
        return NodeLoad(*self._inquiry.run(statement("node_load", self._prefix, checked_name("node", node)))[0])

    def steering(self, *, past: bool = False) -> list[Steered]:
        """List what is asked of nodes and the fleet; with `past`, the latest of what has ended as well."""
        self._require_schema()
        return [Steered(*row) for row in self._inquiry.run(statement("list_steering", self._prefix, past))]

    def _steer(self, verb: str, node: str | None, reason: str | None, by: str | None, for_sec: float | None) -> bool:
        self._require_schema()
        if reason is not None:
            checked_text("reason", reason)
        types = ("text", "text", "text", "text", "float8")
        work = call("steer", self._prefix, verb, node, reason, _by(by), for_sec, types=types)
        return bool(self._inquiry.run(work)[0][0])

    def _known_node(self, node: str) -> str:
        node = checked_name("node", node)
        self._require_schema()
        names = [row.name for row in list_nodes(self._inquiry.run, self._prefix)]
        if node not in names:
            known = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
            raise InvalidArgument(f"there is no node {node!r} in this fleet: it has {known or 'none'}")
        return node

    # --- locks -----------------------------------------------------------------------------------

    def add_lock(
        self,
        task_id: object,
        node_patterns: str | Sequence[str],
        *,
        reason: str | None = None,
        expires_in_days: float | None = None,
        by: str | None = None,
    ) -> None:
        """Pin a task to nodes by patterns, best first; see `Job.register_lock`. Replaces an earlier lock of it."""
        text = as_task(task_id).text  # type: ignore[arg-type]
        if reason is not None:
            checked_text("reason", reason)
        patterns, days = checked_patterns(text, node_patterns), checked_days(expires_in_days)
        self._require_schema()
        cluster = read_cluster(self._inquiry.run, self._prefix)
        total = cluster.total_tokens or self._settings.total_tokens
        token = HASH_FUNCTIONS[cluster.hash_function or self._settings.hash_function](text, total)
        creator = _by(by) or str(self._inquiry.run(statement("who_asks", self._prefix))[0][0])
        self._inquiry.run(
            LockStatements(self._prefix).register([NewLock(text, token, patterns, reason)], creator, days)
        )

    def clear_lock(self, task_id: object) -> bool:
        """Remove the lock of one task; False where it has none."""
        self._require_schema()
        text = as_task(task_id).text  # type: ignore[arg-type]
        return bool(self._inquiry.run(statement("clear_task_lock", self._prefix, text))[0][0])

    def clear_locks(self, creator: str | None = None) -> int:
        """Remove the locks of one creator, or all of them; give how many."""
        self._require_schema()
        creator = None if creator is None else checked_name("creator", creator)
        return int(self._inquiry.run(LockStatements(self._prefix).clear(creator))[0][0])

    # --- pruning ---------------------------------------------------------------------------------

    def prune(self, *, jobs_older_than_days: float | None = 7.0) -> Pruned:
        """Delete what is past its retention now: claims, audits, history, dead nodes, whole days, and ended jobs.

        The retentions are those of the settings that this cluster was opened with, as the leader's are its own. None
        keeps the jobs. Safe while workers run: it goes in bites, and waits for nobody.
        """
        self._require_schema()
        settings = self._settings
        days = (
            settings.claim_retention_days,
            settings.audit_retention_days,
            settings.rebalance_retention_days,
            settings.dead_node_retention_days,
        )
        prune = call("prune", self._prefix, *days, types=("float8",) * 4)
        bites = next(step for step in range(1, MOST_STEPS) if not self._inquiry.run(prune)[0][0])
        drop = Records(self._prefix, "").drop_day()
        dropped = 0
        while dropped < MOST_STEPS and self._inquiry.run(drop)[0][0] == "dropped":
            dropped += 1
        jobs = 0
        if jobs_older_than_days is not None:
            jobs = self._prune_jobs(checked_retention("jobs_older_than_days", jobs_older_than_days))
        return Pruned(bites, dropped, jobs)

    def _prune_jobs(self, days: float) -> int:
        gone = 0
        while True:
            types = ("double precision", "integer")
            bite = int(self._inquiry.run(call("job_prune", self._prefix, days, PRUNE_AT_MOST, types=types))[0][0])
            gone += bite
            if bite < PRUNE_AT_MOST:
                return gone


def _checked_length(for_sec: float | None) -> float | None:
    seconds = checked_seconds("for_sec", for_sec)
    if seconds == 0:
        raise InvalidArgument("for_sec=0 is refused: give seconds, more than 0, or None for until it is resumed")
    return seconds


def _by(by: str | None) -> str | None:
    return None if by is None else checked_name("by", by)
