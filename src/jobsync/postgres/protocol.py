"""The ownership protocol's questions as statements, and their rows as answers.

One question is one statement is one transaction; what must be atomic stands in one function of the schema.
"""

import json
from typing import assert_never

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.steering import Steering
from jobsync.core.tokens import TokenSet
from jobsync.postgres.schema import latest_version
from jobsync.postgres.statement import Row, Statement, call, statement

IDENTITY = ("text", "bigint", "bigint")
SERVER = ("text", "text")
FENCE = (*IDENTITY, "bigint", "text", "bigint")
SHRINK = (*IDENTITY, "int4multirange", "bigint")


class Protocol:
    """Translates for one fleet (prefix); `host`, `pid` and `environment` are shown to people in the node's row."""

    def __init__(self, prefix: str, *, host: str, pid: int, environment: str | None) -> None:
        self.prefix = prefix
        self._host = host
        self._pid = pid
        self._environment = environment

    def statement_for(self, question: m.Question) -> Statement:  # noqa: C901, PLR0911, PLR0912 - one case a question
        """Give the statement that asks a question; a ping is none, the session sends a bare Sync for it."""
        p = self.prefix
        match question:
            case m.Register():
                return self._register(question)
            case m.Rebind(name, incarnation, attempt, lease_ms, system_id, timeline):
                args = (name, incarnation, attempt, lease_ms, system_id, timeline)
                return call("rebind", p, *args, types=("text", "bigint", "integer", "integer", "text", "text"))
            case m.ReadGrants(name, incarnation, server):
                return call("read_grants", p, name, incarnation, *_where(server), types=("text", "bigint", *SERVER))
            case m.Beat(me, applied, known, check, server):
                types = (*IDENTITY, "bigint", "bigint", "boolean", *SERVER)
                return call("beat", p, *_who(me), applied, known, check, *_where(server), types=types)
            case m.Watch(name):
                return statement("watch", p, name)
            case m.WatchForEntry(only):
                return statement("watch_for_entry", p, only)
            case m.Fence(who, beats, rule, silent_ms):
                return call("fence", p, *_who(who), beats, rule, silent_ms, types=FENCE)
            case m.Grow(me, server):
                return call("grow", p, *_who(me), *_where(server), types=(*IDENTITY, *SERVER))
            case m.Shrink(me, tokens, uncovered_ms):
                return call("shrink", p, *_who(me), tokens.text(), uncovered_ms, types=SHRINK)
            case m.ReadPlanInputs(locks_enabled):
                return statement("read_plan_inputs", p, locks_enabled)
            case m.SavePlan():
                return self._save_plan(question)
            case m.LiftQuarantine(generation):
                return call("lift_quarantine", p, generation, types=("bigint",))
            case m.Prune(claim_days, audit_days, rebalance_days, dead_node_days):
                days = (claim_days, audit_days, rebalance_days, dead_node_days)
                return call("prune", p, *days, types=("float8",) * 4)
            case m.BeginLeave(me):
                return call("begin_leave", p, *_who(me), types=IDENTITY)
            case m.Leave(me):
                return call("leave", p, *_who(me), types=IDENTITY)
            case m.HearJobs(wanted):
                return call("hear_jobs", p, wanted, types=("boolean",))
            case m.Ping():
                return Statement("")
            case _:
                assert_never(question)

    def _register(self, q: m.Register) -> Statement:
        types = (
            "text",
            "integer",
            "text",
            "integer",
            "integer",
            "integer",
            "text",
            "text",
            "text",
            "integer",
            "text",
            "boolean",
            "integer",
        )
        return call(
            "register",
            self.prefix,
            q.name,
            q.total_tokens,
            q.hash_function,
            q.heartbeat_timeout_ms,
            q.row_lease_ms,
            q.session_lease_ms,
            q.system_id,
            q.timeline,
            self._host,
            self._pid,
            self._environment,
            q.takes_tokens,
            latest_version(),
            types=types,
        )

    def _save_plan(self, q: m.SavePlan) -> Statement:
        types = (
            *IDENTITY,
            "bigint",
            "bigint",
            "jsonb",
            "jsonb",
            "text",
            "integer",
            "integer",
            "jsonb",
            "timestamptz",
        )
        return call(
            "save_plan",
            self.prefix,
            *_who(q.me),
            q.plan_version,
            q.lock_version,
            json.dumps({node: node not in q.tokenless for node in q.nodes}),
            json.dumps({node: tokens.text() for node, tokens in q.targets.items()}),
            q.reason,
            q.nodes_before,
            q.tokens_moved,
            json.dumps([{"from": source, "to": target, "tokens": tokens.text()} for source, target, tokens in q.moves]),
            q.began_at,
            types=types,
        )

    def answer_to(self, question: m.Question, rows: list[Row]) -> m.Answer:  # noqa: C901, PLR0911, PLR0912 - one case a question
        """Read the rows that a question's statement gave."""
        match question:
            case m.Register():
                return m.Registration(*rows[0])
            case m.Rebind():
                return m.Rebound(*rows[0]) if rows else m.NotCurrent()
            case m.ReadGrants():
                return m.HeldGrants(tuple(Grant(epoch, TokenSet.parse(text)) for epoch, text in rows))
            case m.Beat():
                return _beat_reply(rows[0]) if rows else m.NotCurrent()
            case m.Watch() | m.WatchForEntry():
                return m.Sightings(tuple(m.Sighting(m.Identity(*row[:3]), *row[3:]) for row in rows))
            case m.Fence():
                return m.FenceReply(rows[0][0])
            case m.Grow():
                outcome, epoch, text = rows[0]
                return m.Growth(outcome, Grant(epoch, TokenSet.parse(text)) if outcome == "granted" else None)
            case m.Shrink():
                return m.Shrunk() if rows[0][0] else m.NotCurrent()
            case m.ReadPlanInputs():
                return _plan_inputs(rows[0])
            case m.SavePlan():
                return m.PlanSaved(rows[0][0])
            case m.LiftQuarantine():
                return m.QuarantineLifted()
            case m.Prune():
                return m.Pruned(rows[0][0])
            case m.BeginLeave():
                return m.LeaveBegun(rows[0][0]) if rows else m.NotCurrent()
            case m.Leave():
                return m.Left() if rows[0][0] else m.NotCurrent()
            case m.HearJobs():
                return m.JobsHeard()
            case m.Ping():
                return m.Pong()
            case _:
                assert_never(question)


def _who(identity: m.Identity) -> tuple[str, int, int]:
    return identity.name, identity.incarnation, identity.bind


def _where(server: m.Server | None) -> tuple[str | None, str | None]:
    return (None, None) if server is None else (server.system_id, server.timeline)


def _beat_reply(row: Row) -> m.BeatReply:
    _, plan_version, planned, target, leader, live, elders, members, roster, plan_due, quarantined, longest_ms = row
    return m.BeatReply(
        plan_version=plan_version,
        planned=planned,
        target=None if target is None else TokenSet.parse(target),
        leader=leader,
        live=live,
        elders=elders,
        members=members,
        roster=roster,
        plan_due=plan_due,
        quarantined=quarantined,
        longest_lease_ms=longest_ms,
    )


def _plan_inputs(row: Row) -> m.PlanInputs:
    plan_version, lock_version, total_tokens, began_at, nodes_text, fenced, targets_text, locks, steered = row
    nodes: list[tuple[str, bool]] = json.loads(nodes_text)
    targets: list[tuple[str, str, bool]] = json.loads(targets_text)
    steering = json.loads(steered)
    return m.PlanInputs(
        plan_version=plan_version,
        lock_version=lock_version,
        total_tokens=total_tokens,
        began_at=began_at,
        nodes=tuple(name for name, _ in nodes),
        fenced=frozenset(json.loads(fenced)),
        targets={node: TokenSet.parse(text) for node, text, _ in targets},
        locks=_locks(*json.loads(locks)),
        tokenless=frozenset(name for name, takes_tokens in nodes if not takes_tokens),
        planned_tokenless=frozenset(node for node, _, takes_tokens in targets if not takes_tokens),
        steering=Steering(
            cordoned=frozenset(steering["cordoned"]),
            drained=frozenset(steering["drained"]),
            frozen=steering["frozen"],
            changed=steering["changed"],
        ),
    )


def _locks(tokens: list[int], tasks: list[str], patterns: list[str]) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Put the columns of the locks together; equal patterns are read once, and shared."""
    known = {text: tuple(json.loads(text)) for text in set(patterns)}
    return tuple(zip(tokens, tasks, map(known.__getitem__, patterns), strict=True))
