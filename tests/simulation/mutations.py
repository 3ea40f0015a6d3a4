"""Each rule of the protocol, left out from outside: by a member that is bent, or by one function of the schema changed.

The product knows nothing of this. A change of SQL names the text that it replaces, so that a mutation which does not
fit the schema any more is an error and not a silent pass.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from jobsync.core.member import Member
from jobsync.core.settings import Settings
from jobsync.postgres.statement import load_sql
from jobsync.postgres.virtual_server import PREFIX, VirtualServer
from jobsync.simulation.checkers import Checkers
from jobsync.simulation.seeds import Outcome, Plan, run_seed
from tests.simulation.bent import (
    BelievesBeforeTheGrant,
    CountsFromTheAck,
    GivesUpTheRowFirst,
    LeadsUntilTheRowIsGivenUp,
    LetsTheDrainedLead,
    PlansTwoLeaders,
    TrustsTheRowAlone,
    gives_without_end,
    keeps_no_place,
    keeps_none_of_the_cordoned,
    keeps_the_places_of_the_dead,
    knows_no_freeze,
    seeing_leases,
    suspects_everybody,
    waits_on_from_another_server,
)

# --- the table -------------------------------------------------------------------------------

REGRANT = """
    with own as (delete from sync_grant g where g.node = _name returning g.tokens)
    select want + coalesce(range_agg(r), '{}') into want from own, unnest(own.tokens) r;
    insert into sync_grant (epoch"""
OWN_LOCK = "perform from sync_grant g where g.node = _name and g.tokens && _give order by g.epoch for update nowait;"
SqlEdit = tuple[str, str, str]  # the function's file, the text, and what stands in its place


@dataclass(frozen=True)
class Mutation:
    """One rule left out: what it is, which invariants may tell, and a seed that is known to."""

    rule: str
    invariants: str
    seed: int
    member: type[Member] = Member
    patches: dict[str, Any] = field(default_factory=dict)
    sql: tuple[SqlEdit, ...] = ()
    plan: Plan = field(default_factory=Plan)  # without steering and other pools, where it does not ask for them

    def make(self, name: str, settings: Settings, takes_tokens: bool) -> Member:
        return self.member(name, settings, takes_tokens=takes_tokens)

    @contextmanager
    def applied(self, virtual: VirtualServer) -> Iterator[Callable[[int], Outcome]]:
        """Leave the rule out; gives what runs a seed without it."""
        with ExitStack() as stack:
            for target, changed in self.patches.items():
                stack.enter_context(patch(target, changed))
            edits: dict[str, str] = {}
            for name, old, new in self.sql:
                text = edits.get(name) or load_sql("functions", name, PREFIX)
                assert old in text, f"{name}.sql has no {old!r} any more: fit the mutation to it"
                edits[name] = text.replace(old, new)
            for name, text in edits.items():
                stack.callback(virtual.script, load_sql("functions", name, PREFIX))
                virtual.script(text)
            plan = replace(self.plan, steered=bool(self.plan.steered), resized=bool(self.plan.resized))
            yield lambda seed: run_seed(virtual, seed, plan, make_member=self.make)


def nothing(*args: object, **options: object) -> None:
    """Judge nothing."""


NO_I10 = {f"{Checkers.__module__}.Checkers.stepped": nothing}
FAIL_OVERS = Plan(fail_over=True)
SESSIONS = Plan(direct=True, fail_over=False)
POOLED = Plan(direct=False, fail_over=False)
POOLED_FAIL_OVERS = Plan(
    nodes=3,
    direct=False,
    fail_over=True,
    total_tokens=4,
    tokenless=0.0,
    faults=(("fail-over", 2), ("lock change", 4), ("crash", 2), ("session broken", 1)),
    lost_changes=6,
)
STEERED = Plan(fail_over=False, steered=True)
THAWED = Plan(
    fail_over=False,
    steered=True,
    total_tokens=7,
    tokenless=0.0,
    faults=(("freeze", 3), ("leave", 3), ("lock change", 1)),
)
RESIZED = Plan(fail_over=False, resized=True)
# Some rules are missed in rare weather alone.
FADING = Plan(direct=False, fail_over=False, nodes=3, faults=(("fading database", 6), ("pause", 1)))
# Two who sleep, or are cut off, from one fail-over into the next, each of which loses moves.
ASLEEP = Plan(
    nodes=2,
    direct=True,
    fail_over=True,
    total_tokens=3,
    tokenless=0.0,
    faults=(("fail-over", 3), ("pause", 3), ("partition", 2)),
    lost_changes=8,
)
RELAPSED = Plan(
    nodes=2,
    direct=True,
    fail_over=True,
    total_tokens=2,
    tokenless=0.0,
    faults=(("fail-over", 1),),
    lost_changes=10,
)
FROZEN = Plan(nodes=2, fail_over=False, faults=(("session broken", 1),), frozen_chance=0.1)
WRITTEN = Plan(
    nodes=2, fail_over=False, total_tokens=2, tokenless=0.0, faults=(("lock change", 4), ("leave", 3), ("pause", 2))
)

MUTATIONS = (
    Mutation("the lease is counted from the ack", "I1 I2 I6", 51, member=CountsFromTheAck, plan=FADING),
    Mutation("tokens are believed in before the grant is acknowledged", "I1 I2", 0, member=BelievesBeforeTheGrant),
    Mutation("the row is given up before the belief", "I1 I2", 0, member=GivesUpTheRowFirst, patches=NO_I10),
    Mutation(
        "the right to lead is believed in while it is handed over",
        "I1 I2",
        0,
        member=LeadsUntilTheRowIsGivenUp,
        patches=NO_I10,
    ),
    Mutation("the session lease is not kept by its holder", "I1 I2 I6", 24, member=TrustsTheRowAlone, plan=SESSIONS),
    Mutation("a session's end is taken for death", "I1 I2 I6", 3, member=seeing_leases(session=0), plan=SESSIONS),
    Mutation(
        "observers wait for less than the session lease",
        "I1 I2 I6",
        11,
        member=seeing_leases(session=0.5),
        plan=SESSIONS,
    ),
    Mutation("observers wait for less than the row lease", "I1 I2 I6", 0, member=seeing_leases(row=0.5), plan=POOLED),
    Mutation(
        "the database's clock decides who is dead",
        "I1 I2 I6",
        3,
        patches={"jobsync.core.observer.Observer.suspects": suspects_everybody},
        sql=(
            (
                "fence",
                "suspect.beats is distinct from _beats",
                "suspect.last_heartbeat > clock_timestamp() - suspect.row_lease_ms * interval '1 ms'",
            ),
        ),
    ),
    Mutation(
        "a silent node is fenced without looking again",
        "I1 I2 I6",
        14,
        sql=(("fence", "_rule = 'A' and suspect.beats is distinct from _beats", "false"),),
        plan=POOLED,
    ),
    Mutation(
        "an absent node is fenced under whatever session it has now",
        "I1 I2 I5 I6 I8",
        8,
        sql=(
            ("fence", "(suspect.incarnation, suspect.bind) is distinct from (_incarnation, _bind)", "false"),
            ("fence", "or sync_session_seen(suspect.backend_pid, suspect.backend_start)", "or false"),
        ),
        plan=SESSIONS,
    ),
    Mutation(
        "no bind number",
        "I1 I2 I8",
        10,
        sql=tuple((name, " and n.bind = _bind", "") for name in ("beat", "grow", "shrink", "begin_leave", "leave")),
    ),
    Mutation("a late rebind counts", "I8", 0, sql=(("rebind", "and n.rebind_attempt < _attempt", ""),), plan=FROZEN),
    Mutation(
        "no incarnation",
        "I1 I2 I5",
        4,
        sql=(
            ("register", "    where n.state = 'fenced'\n", ""),
            *(
                (name, " and n.incarnation = _incarnation and n.bind = _bind", "")
                for name in ("beat", "grow", "shrink", "begin_leave", "leave")
            ),
        ),
    ),
    Mutation(
        "a fenced node goes on",
        "I1 I2 I5",
        0,
        sql=(("beat", " and n.state <> 'fenced'", ""), ("grow", " and n.state = 'live'", "")),
    ),
    Mutation(
        "a fence takes tokens and does not mark the row",
        "I1 I2 I5",
        0,
        sql=(("fence", "set state = 'fenced', schema_version = null, last_heartbeat", "set last_heartbeat"),),
    ),
    Mutation(
        "grow takes what others hold",
        "I3 SQL",
        0,
        sql=(("grow", "want := want - coalesce(held, '{}');", ""),),
    ),
    Mutation(
        "grow deals its own grants anew",
        "I7",
        0,
        sql=(
            (
                "grow",
                "    insert into sync_grant (epoch",
                REGRANT,
            ),
        ),
    ),
    Mutation(
        "no quarantine after a fail-over",
        "I1",
        56,
        sql=(("recognise_server", "quarantined = m.system_id is not null", "quarantined = false"),),
        plan=FAIL_OVERS,
    ),
    Mutation(
        "the quarantine is lifted at once",
        "I1",
        128,
        patches={"jobsync.core.member.Member._quarantine_ends_sec": lambda self: 0.0},
        plan=FAIL_OVERS,
    ),
    Mutation(
        "the wait in one quarantine counts in the next one",
        "I1",
        2,
        patches={"jobsync.core.member.Member._note_server": waits_on_from_another_server},
        plan=ASLEEP,
    ),
    Mutation(
        "an expired belief is revived after a fail-over",
        "I1",
        53,
        patches={"jobsync.core.member.Member._note_server": lambda self, generation: False},
        plan=FAIL_OVERS,
    ),
    Mutation(
        "behind a pooler a node beats and grows on whatever server is there",
        "I1",
        18,
        patches={"jobsync.core.member.Member._server_to_name": lambda self: None},
        plan=POOLED_FAIL_OVERS,
    ),
    Mutation(
        "numbers of lost commits are given again",
        "I4",
        89,
        sql=(("recognise_server", "nextval('sync_epoch') + 1000000", "nextval('sync_epoch')"),),
        plan=RELAPSED,
    ),
    Mutation(
        "a hand-over may take for ever",
        "I9",
        0,
        patches={"jobsync.core.belief.Belief.give": gives_without_end, "jobsync.core.belief.Belief.drained": nothing},
    ),
    Mutation(
        "ownership is not checked when a user's transaction commits",
        "I11",
        8,
        sql=(("still_owner", "return found;", "return true;"),),
        plan=WRITTEN,
    ),
    Mutation(
        "the check in a user's transaction locks nothing",
        "I11",
        4,
        sql=(("still_owner", "    for share;", "    ;"),),
        plan=WRITTEN,
    ),
    Mutation(
        "the check locks the key alone, and shrink takes no lock of its own",
        "I11",
        0,
        sql=(
            ("still_owner", "for share;", "for key share;"),
            (
                "shrink",
                OWN_LOCK,
                "",
            ),
        ),
        plan=WRITTEN,
    ),
    Mutation(
        "a row may be deleted while tokens are held",
        "SQL",
        5,
        sql=(
            (
                "guard_node_delete",
                "if not exists (select from sync_grant g where g.node = old.name) then",
                "if true then",
            ),
        ),
    ),
    Mutation(
        "what is granted stays written down as without an owner",
        "I9",
        0,
        sql=(("note_handover", "h.granted_at is null and h.tokens && _tokens", "false"),),
    ),
    Mutation("two are to lead", "I9", 0, member=PlansTwoLeaders),
    Mutation(
        "beats do not read the plan, hints alone do",
        "I9",
        6,
        sql=(("beat", "agreed.plan_version <> _known_plan_version", "_known_plan_version < 0"),),
    ),
    Mutation(
        "a drained node is dealt to as any other",
        "I12",
        0,
        patches={"jobsync.core.steering.Steering.is_open": lambda self, node: node not in self.cordoned},
        plan=STEERED,
    ),
    Mutation(
        "a cordoned node is dealt to as any other",
        "I12",
        1,
        patches={"jobsync.core.steering.Steering.is_open": lambda self, node: node not in self.drained},
        plan=STEERED,
    ),
    Mutation(
        "a cordon takes away what the node has",
        "I12",
        1,
        patches={"jobsync.core.steering._staying": keeps_none_of_the_cordoned},
        plan=STEERED,
    ),
    Mutation(
        "a freeze is not heeded", "I12", 8, patches={"jobsync.core.steering._staying": knows_no_freeze}, plan=STEERED
    ),
    Mutation(
        "a freeze keeps no place for who left",
        "I12",
        0,
        patches={"jobsync.core.steering._staying": keeps_no_place},
        plan=THAWED,
    ),
    Mutation(
        "a freeze keeps the places of the dead",
        "I12",
        12,
        patches={"jobsync.core.steering._staying": keeps_the_places_of_the_dead},
        plan=STEERED,
    ),
    Mutation("a drained node leads although others could", "I9 busy", 0, member=LetsTheDrainedLead, plan=STEERED),
    Mutation(
        "what is resumed takes no effect",
        "I9",
        8,
        sql=(("note_steering_change", "c.ended_at is null or tg_op = 'UPDATE'", "c.ended_at is null"),),
        plan=STEERED,
    ),
    Mutation(
        "a freeze that ran out is not noticed",
        "I9",
        2,
        sql=(("beat", "coalesce(bool_or(s.ends_at <= clock_timestamp()), false)", "false"),),
        plan=THAWED,
    ),
    Mutation(
        "another number of tokens is taken while others live",
        "I13",
        9,
        sql=(("register", "if exists (select from sync_node n where n.state <> 'fenced') then", "if false then"),),
        plan=RESIZED,
    ),
)
