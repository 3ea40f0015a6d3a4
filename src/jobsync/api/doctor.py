"""`diagnose`: what is wrong with a fleet or its database, and what to do about each.

Model: a number of looks, each by itself, none of which changes anything. A look gives findings: `ok` and `note` are for
people to know, a `problem` has a remedy. Where the tables cannot be used the looks that need them are left out, and
that is the finding.

Not promised: that what was found still holds when it is read; a hand-over under way looks like an unplaced token for a
moment. Look again before you act.
"""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jobsync.api.cluster import Cluster, ClusterStatus, open_cluster
from jobsync.core.errors import SchemaError
from jobsync.core.settings import Settings, session_lease_for
from jobsync.postgres.inquiry import Inquiry
from jobsync.postgres.schema import latest_version
from jobsync.postgres.statement import Statement, statement
from jobsync.runtime.clock import boot_sec, now

PINGS = 10
HEARD_WITHIN_SEC = 3.0
DEAD_ROWS = 20_000
DEAD_PER_LIVE = 2
HELD_BACK_SEC = 600.0
FULL = 0.9
MOST_NAMED = 5
GRANT = "let the owner grant what is missing: the lines at the end of sql/schema.sql name all that a worker needs"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found. `check` names the look, `level` is ok, note or problem; a problem has a remedy."""

    check: str
    level: str
    text: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in the order of the looks."""

    where: str
    appname: str
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether there is no problem."""
        return all(finding.level != "problem" for finding in self.findings)


def diagnose(config: Settings) -> Diagnosis:
    """Look at everything. Raises DatabaseUnavailable where the database cannot be asked at all."""
    with open_cluster(config) as cluster:
        return Diagnosis(cluster.where, config.prefix, tuple(_Doctor(cluster, config).findings()))


def ok(check: str, text: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(check, "ok", text)


def note(check: str, text: str, remedy: str | None = None) -> Finding:
    """Say something that people should know."""
    return Finding(check, "note", text, remedy)


def problem(check: str, text: str, remedy: str) -> Finding:
    """Say that something is wrong, and what to do."""
    return Finding(check, "problem", text, remedy)


class _Doctor:
    """One examination."""

    def __init__(self, cluster: Cluster, config: Settings) -> None:
        self._cluster = cluster
        self._inquiry: Inquiry = cluster.inquiry
        self._config = config
        self._prefix = config.prefix

    def findings(self) -> Iterator[Finding]:
        yield from self._server()
        yield from self._latency()
        try:
            status = self._cluster.status(rebalances=0)
        except SchemaError as error:
            yield problem("schema", str(error), self._remedy_for_schema())
            return
        yield from self._schema(status)
        looks: tuple[Callable[[], Iterator[Finding]], ...] = (self._rights, self._bloat, self._held_back)
        for look in looks:
            yield from look()
        yield from _nodes(status)
        yield from _steering(status)
        yield from self._tokens(status)
        yield from self._locks()
        yield from self._queue()

    def _remedy_for_schema(self) -> str:
        """Say what helps where the tables cannot be read: what is refused anyway is no help."""
        try:
            found = self._inquiry.schema(self._prefix)
        except SchemaError:  # Even their version may not be read.
            return GRANT
        if found.oldest_program > latest_version():
            return "update jobsync here"
        return f"jobsync migrate --appname {self._prefix}" if found.version < latest_version() else GRANT

    def _schema(self, status: ClusterStatus) -> Iterator[Finding]:
        own = latest_version()
        fits = "as this program's" if status.schema_version == own else f"newer than this program's {own}, and fit it"
        yield ok("schema", f"tables {self._prefix}* of version {status.schema_version}, {fits}")
        if self._cluster.awaits_removal():
            text = "the tables still have what only older programs need"
            remedy = f"when the last of them is gone: jobsync migrate --phase post --appname {self._prefix}"
            yield note("schema", text, remedy)

    # --- the server ------------------------------------------------------------------------------

    def _server(self) -> Iterator[Finding]:
        sent = now()
        row = self._inquiry.run(statement("doctor_server", self._prefix))[0]
        version, standby, durable, role, database_now, backend_pid, port, sessions, most, autovacuum, encoding = row
        skew_sec = database_now.timestamp() - (sent.wall_sec + now().wall_sec) / 2
        yield ok("server", f"PostgreSQL {version}, as role {role!r}")
        if standby:
            yield problem("server", "this is a standby: nothing can be written", "give the DSN of the primary")
            return
        if not durable:
            text = "fsync is off: a crash of the server's machine may lose grants, and with them exclusivity"
            yield problem("server", text, "switch fsync on in postgresql.conf")
        if not autovacuum:
            yield problem("server", "autovacuum is off: dead rows stay for ever", "switch autovacuum on")
        if encoding != "UTF8":
            text = f"the database's encoding is {encoding}: an enqueue with characters that it lacks is refused"
            yield note("server", text, "make a database with encoding 'UTF8' if jobs may hold any text")
        if sessions > FULL * most:
            text = f"{sessions} of {most} connections are in use"
            yield problem("connections", text, "raise max_connections, or give the application's own pools fewer")
        else:
            yield ok("connections", f"{sessions} of {most} in use")
        yield from self._way(backend_pid, port)
        yield note("clock", f"the database's clock is {skew_sec:+.3f} s from this machine's; nothing depends on it")

    def _way(self, backend_pid: int, port: int | None) -> Iterator[Finding]:
        direct = self._inquiry.is_direct(backend_pid, port)
        has_session_dsn = self._config.session_dsn is not None
        if direct:
            yield ok("pooler", "no pooler between: sessions are the server's own")
        elif has_session_dsn:
            yield ok("pooler", "a pooler stands between, and session_dsn is given for the nodes' own sessions")
        else:
            text = (
                "a pooler stands between: deaths are noticed by the heartbeat alone, and notifications may not arrive"
            )
            yield problem("pooler", text, "give session_dsn (SYNC_SESSION_DSN) a direct connection")
        began_sec = boot_sec()
        if self._inquiry.hear_itself(f"{self._prefix}doctor", HEARD_WITHIN_SEC):
            yield ok("notify", f"a notification went around in {(boot_sec() - began_sec) * 1000:.1f} ms")
        elif has_session_dsn:
            yield note("notify", "notifications do not arrive on this DSN; nodes listen on session_dsn")
        else:
            text = f"no notification arrived within {HEARD_WITHIN_SEC:g} s: changes are noticed with the next beat only"
            yield problem("notify", text, "give session_dsn (SYNC_SESSION_DSN) a direct connection")

    def _latency(self) -> Iterator[Finding]:
        trips_sec = []
        for _ in range(PINGS):
            began_sec = boot_sec()
            self._inquiry.run(Statement("select 1"))
            trips_sec.append(boot_sec() - began_sec)
        best_sec, worst_sec = min(trips_sec), max(trips_sec)
        asked_sec, lease_sec = self._config.session_lease_sec, session_lease_for(self._config, best_sec)
        text = f"round trips take {best_sec * 1000:.1f} to {worst_sec * 1000:.1f} ms"
        if asked_sec is None:
            yield note("latency", f"{text}; the session lease is off: a death is noticed within the heartbeat timeout")
        elif lease_sec is None:
            remedy = "bring the workers nearer to the database, or accept it with session_lease_sec=None"
            yield problem("latency", f"{text}: too long for a session lease, so deaths are noticed late", remedy)
        elif worst_sec > lease_sec / 3:
            text = f"{text}; the slowest took more than a third of the session lease of {lease_sec:g} s"
            yield problem("latency", text, "raise session_lease_sec, or find out what slows the database down")
        else:
            raised = "" if lease_sec == asked_sec else f", raised from {asked_sec:g} s"
            yield ok(
                "latency",
                f"{text}; the session lease of {lease_sec:g} s{raised} is {lease_sec / worst_sec:.0f} times that",
            )

    # --- the tables ------------------------------------------------------------------------------

    def _rights(self) -> Iterator[Finding]:
        missing = [row[0] for row in self._inquiry.run(statement("doctor_rights", self._prefix, self._prefix))]
        if missing:
            yield problem("rights", f"this role lacks {_some(missing)}", GRANT)
        else:
            yield ok("rights", "this role may do all that a worker must")

    def _bloat(self) -> Iterator[Finding]:
        rows = self._inquiry.run(statement("doctor_tables", self._prefix, self._prefix))
        fat = [(table, dead) for table, live, dead in rows if dead > DEAD_ROWS and dead > DEAD_PER_LIVE * live]
        for table, dead in fat:
            remedy = f"vacuum (analyze) {table}; and see to what holds vacuum back, below"
            yield problem("bloat", f"table {table} has {dead:,} dead rows, more than twice its live ones", remedy)
        if not fat:
            yield ok("bloat", f"at most {max((row[2] for row in rows), default=0):,} dead rows in any table")

    def _held_back(self) -> Iterator[Finding]:
        holders = self._inquiry.run(statement("doctor_holders", self._prefix, HELD_BACK_SEC))
        for who, age_sec in holders:
            kind = (
                "commit or roll it back: rollback prepared"
                if who.startswith("prepared")
                else "end it: pg_terminate_backend"
            )
            yield problem("vacuum", f"{who} has been in a transaction for {age_sec:,} s, and holds vacuum back", kind)
        if not holders:
            yield ok("vacuum", f"no transaction of this database is older than {HELD_BACK_SEC / 60:g} min")

    # --- the fleet -------------------------------------------------------------------------------

    def _tokens(self, status: ClusterStatus) -> Iterator[Finding]:
        if status.total_tokens is None:
            yield note("tokens", "no node has ever joined this fleet")
            return
        ranges = self._cluster.ranges()
        nobodys = sum(each.size for each in ranges if each.node is None)
        moving = sum(each.size for each in ranges if each.node is not None and each.node != each.intended)
        if not nobodys and not moving:
            yield ok("tokens", f"all {status.total_tokens:,} tokens are held, by whom the plan wants")
        if nobodys:
            text = f"{nobodys:,} of {status.total_tokens:,} tokens are nobody's"
            yield problem("tokens", text, _remedy_for_nobodys(status))
        if moving:
            remedy = "look again; if it stays, the holder's log says what keeps it (a long callback or task body)"
            yield problem("tokens", f"{moving:,} tokens are held by others than the plan wants", remedy)

    def _locks(self) -> Iterator[Finding]:
        locks = self._cluster.locks()
        lost = [repr(lock.task_id) for lock in locks if lock.step is None]
        overruled = [repr(lock.task_id) for lock in locks if not lock.decides]
        if lost:
            remedy = "start a node with a matching name, widen the patterns, or jobsync locks clear TASK"
            yield problem("locks", f"{len(lost):,} locks match no live node: tasks {_some(lost)}", remedy)
        if overruled:
            text = f"{len(overruled):,} locks share a token with one registered before: tasks {_some(overruled)}"
            yield note("locks", text, "where their patterns differ, the lock registered first decides")
        if not lost:
            yield ok("locks", f"{len(locks):,} locks, each matches a live node")

    def _queue(self) -> Iterator[Finding]:
        unknown = self._inquiry.run(statement("unknown_kinds", self._prefix))
        paused = [row[0] for row in self._inquiry.run(statement("list_pauses", self._prefix))]
        for queue, kind, waiting in unknown:
            text = f"{waiting:,} jobs of kind {kind!r} wait in queue {queue!r}, and no live worker knows it"
            cancel = shlex.join(["jobsync", "jobs", "cancel", "--all", "--kind", kind, "--queue", queue])
            remedy = f"start a worker with a handler for it, or {cancel}"
            yield problem("queue", text, remedy)
        if paused:
            yield note("queue", f"paused: {_some([repr(queue) for queue in paused])}", "jobsync jobs resume QUEUE")
        if not unknown:
            yield ok("queue", "every kind that waits is known to a live worker")


def _nodes(status: ClusterStatus) -> Iterator[Finding]:
    silent = [repr(node.name) for node in status.nodes if node.state == "silent"]
    late = [
        f"{node.name!r} ({node.heartbeat_age_sec:.0f} s)"
        for node in status.nodes
        if node.is_live and node.heartbeat_age_sec > node.heartbeat_timeout_sec / 2
    ]
    if silent:
        text = f"{len(silent)} nodes were not heard within their timeout and are not fenced: {_some(silent)}"
        yield problem("nodes", text, "start any node: the living fence the dead")
    if late:
        text = f"the heartbeats of {len(late)} nodes lag: {_some(late)}"
        yield problem("nodes", text, "see whether they are starved of CPU, paused, or cut off from the database")
    if not status.live_nodes and not status.live_tokenless:
        yield problem("nodes", "no node is live", "start one")
    elif not silent and not late:
        led = "nobody leads" if status.leader is None else f"{status.leader!r} leads"
        yield ok("nodes", f"{status.live_nodes + status.live_tokenless} are live and heard in time; {led}")


def _steering(status: ClusterStatus) -> Iterator[Finding]:
    if status.quarantined:
        text = "the fleet is in quarantine after a fail-over: nothing is granted until a whole lease has passed"
        yield problem("quarantine", text, "wait for the longest heartbeat timeout; a live node lifts it by itself")
    for each in status.steering:
        whom = "the fleet" if each.node is None else f"node {each.node!r}"
        verb = {"cordon": "cordoned", "drain": "drained", "freeze": "frozen"}[each.verb]
        command = "jobsync resume" if each.node is None else f"jobsync resume {each.node}"
        yield note("steering", f"{whom} is {verb}, by {each.asked_by} at {each.asked_at:%Y-%m-%d %H:%M}", command)


def _remedy_for_nobodys(status: ClusterStatus) -> str:
    if not status.live_nodes:
        return "start a node that takes tokens"
    if status.quarantined:
        return "wait until the quarantine is lifted"
    if status.frozen:
        return "start the node that left, or jobsync resume: a frozen fleet keeps the places of those who left"
    if all(node.steered for node in status.nodes if node.is_live and node.takes_tokens):
        return "jobsync resume NODE, or start another: every live node is cordoned or drained"
    return "look again: a hand-over takes moments; if it stays, see the leader's log"


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(str, names[:MOST_NAMED])) + more
