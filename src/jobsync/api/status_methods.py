"""The part of `Job` that tells: who it is, what it owns, who else is there."""

from dataclasses import asdict
from datetime import date
from typing import Any

from jobsync import postgres, runtime
from jobsync.api.membership import Membership
from jobsync.api.status import JobStatus
from jobsync.core.errors import NotRunning
from jobsync.core.tokens import TokenSet


class StatusMethods(Membership):
    """Telling about the job, its node and its fleet."""

    @property
    def node_name(self) -> str:
        """The node's name."""
        return self._name

    @property
    def environment(self) -> str | None:
        """The label given; it selects nothing."""
        return self._environment

    @property
    def run(self) -> str | None:
        """The run worked in, or None."""
        return self._run

    @property
    def date(self) -> "date":
        """The day worked for. Within a run it was fixed at the run's first entry."""
        if self._ledger is not None:
            return self._ledger.day
        day = self._day or self._given_date
        if day is None:
            raise NotRunning(f"job {self._name!r} takes its date from the database at enter: use it inside `with`")
        return day

    @property
    def tables(self) -> dict[str, str]:
        """The names of the tables, by key: Node, Token, Lock, Claim, Audit, Rebalance."""
        return {key: f"{self._prefix}{key.lower()}" for key in ("Node", "Token", "Lock", "Claim", "Audit", "Rebalance")}

    @property
    def my_tokens(self) -> TokenSet:
        """The tokens owned now, as a read-only set; empty while the lease is not certain."""
        return self._held_tokens()

    @property
    def token_version(self) -> int:
        """The number of the distribution that the node knows."""
        return 0 if self._node is None else self._node.engine.standing.plan_version

    def am_i_leader(self) -> bool:
        """Whether this node is the oldest live one, as far as it knows: advisory, it excludes nobody.

        For work that must run in one process at a time use `leader()` or `@singleton`, which hold a grant.
        """
        self._touch()
        node = self._node
        return node is not None and node.holding is not None and node.engine.standing.leader == self._name

    def am_i_healthy(self) -> bool:
        """Whether the lease is certain, the engine alive, the database's last reply young and no callback stuck."""
        self._touch()
        return self._node is not None and self._node.is_healthy()

    def status(self) -> JobStatus:
        """Give all of it as one value."""
        node = self._running()
        standing = node.engine.standing
        return JobStatus(
            node_name=self._name,
            environment=self._environment,
            date=self.date,
            run=self._run,
            coordinated=self._settings is not None,
            phase=standing.phase.value,
            connected=standing.connected,
            healthy=self.am_i_healthy(),
            leader=standing.leader,
            am_i_leader=self.am_i_leader(),
            live_nodes=standing.live,
            tokens_owned=len(node.tokens),
            total_tokens=self._total_tokens,
            token_version=standing.plan_version,
            session_lease_ms=standing.session_lease_ms,
        )

    def get_coordination_status(self) -> dict[str, Any]:
        """Give `status()` as a dict."""
        return asdict(self.status())

    def get_active_nodes(self) -> list[dict[str, Any]]:
        """List the live nodes, oldest first, as dicts with name, created_on and last_heartbeat."""
        node = self._running()
        if isinstance(node, runtime.SoloNode):
            return [{"name": self._name, "created_on": None, "last_heartbeat": None}]
        rows = postgres.list_nodes(node.pool.run, self._prefix)
        return [
            {"name": row.name, "created_on": row.created_on, "last_heartbeat": row.last_heartbeat}
            for row in rows
            if row.active
        ]

    def get_dead_nodes(self) -> list[str]:
        """Name the nodes that are known and not live: fenced, or silent for longer than their timeout."""
        node = self._running()
        if isinstance(node, runtime.SoloNode):
            return []
        return [row.name for row in postgres.list_nodes(node.pool.run, self._prefix) if not row.active]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The live nodes; the same as `get_active_nodes()`."""
        return self.get_active_nodes()
