"""Each rule of the protocol, left out from outside: by a member that is bent, or by one function of the schema changed.

The product knows nothing of this. A change of SQL names the text that it replaces, so that a mutation which does not
fit the schema any more is an error and not a silent pass.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from jobsync.core import messages as m
from jobsync.core.belief import Belief, Giving
from jobsync.core.member import Member
from jobsync.core.observer import Observer, Suspect
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet
from jobsync.postgres.statement import load_sql
from jobsync.postgres.virtual_server import PREFIX, VirtualServer
from jobsync.simulation.checkers import Checkers
from jobsync.simulation.seeds import Outcome, Plan, run_seed

# --- members that are bent -------------------------------------------------------------------


class CountsFromTheAck(Member):
    """The lease begins when the answer arrives."""

    def step(self, event: m.Event) -> list[m.Effect]:
        return super().step(replace(event, sent=event.at) if isinstance(event, m.Answered) else event)


class _Republishing(Member):
    """Bends what readers are told."""

    extra = TokenSet()
    standing: m.Standing | None = None

    def step(self, event: m.Event) -> list[m.Effect]:
        return [bent for effect in super().step(event) for bent in self.bend(effect)]

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if not isinstance(effect, m.Publish):
            return [effect]
        self.standing = effect.standing
        return [m.Publish(self.bent(effect.standing))]

    def bent(self, standing: m.Standing) -> m.Standing:
        return replace(standing, holding=replace(standing.holding, tokens=standing.holding.tokens | self.extra))


class BelievesBeforeTheGrant(_Republishing):
    """What is asked for is believed at once."""

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if isinstance(effect, m.Ask):
            asks = isinstance(effect.question, m.Grow) and self.standing is not None
            self.extra = (self.standing.target or TokenSet()) if asks and self.standing else TokenSet()
            return [effect] if self.standing is None else [m.Publish(self.bent(self.standing)), effect]
        return super().bend(effect)


class GivesUpTheRowFirst(_Republishing):
    """Tokens are believed in until the database has said that they are free."""

    def step(self, event: m.Event) -> list[m.Effect]:
        effects = super().step(event)
        if isinstance(event, m.Answered) and isinstance(event.question, m.Shrink):
            self.extra = TokenSet()
        return effects

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if isinstance(effect, m.Drain):
            self.extra |= effect.tokens - RIGHT_TO_LEAD
        if isinstance(effect, m.Ask) and isinstance(effect.question, m.Shrink) and self.standing is not None:
            return [m.Publish(self.bent(self.standing)), effect]
        return super().bend(effect)


class TrustsTheRowAlone(_Republishing):
    """A session lease is told to the database and not kept."""

    def bent(self, standing: m.Standing) -> m.Standing:
        row = self._belief.row
        if row is None:
            return standing
        return replace(standing, holding=replace(standing.holding, boot_until_sec=row.boot_until_sec))


class PlansTwoLeaders(Member):
    """The plan wants every node to lead: one of them waits for it for ever."""

    def step(self, event: m.Event) -> list[m.Effect]:
        return [self.bend(effect) for effect in super().step(event)]

    def bend(self, effect: m.Effect) -> m.Effect:
        if isinstance(effect, m.Ask) and isinstance(effect.question, m.SavePlan):
            everybody = {node: tokens | RIGHT_TO_LEAD for node, tokens in effect.question.targets.items()}
            return replace(effect, question=replace(effect.question, targets=everybody))
        return effect


def seeing_leases(*, row: float = 1, session: float = 1) -> type[Member]:
    """Make a member that takes the leases of others for shorter than they are."""

    class Impatient(Member):
        def step(self, event: m.Event) -> list[m.Effect]:
            if isinstance(event, m.Answered) and isinstance(event.answer, m.Sightings):
                nodes = tuple(
                    replace(
                        node,
                        row_lease_ms=int(node.row_lease_ms * row),
                        session_lease_ms=node.session_lease_ms and max(1, int(node.session_lease_ms * session)),
                    )
                    for node in event.answer.nodes
                )
                event = replace(event, answer=m.Sightings(nodes))
            return super().step(event)

    return Impatient


# --- functions of the core that are replaced -------------------------------------------------


def suspects_everybody(self: Observer, now_sec: float) -> list[Suspect]:
    """Leave it to the database whom its clock takes for dead."""
    return [Suspect(who, watched.beats, "A") for who, watched in self._watched.items()]


def gives_without_end(self: Belief, tokens: TokenSet, now_sec: float) -> Giving:
    """Begin a hand-over that is never done."""
    giving = give(self, tokens, now_sec)
    giving.since_sec = 1e12
    return giving


give = Belief.give


# --- the table -------------------------------------------------------------------------------

CURRENT = "n.name = _name and n.incarnation = _incarnation and n.bind = _bind and n.state <> 'fenced'"
LIVE = "n.name = _name and n.incarnation = _incarnation and n.bind = _bind and n.state = 'live'"
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
    plan: Plan = field(default_factory=Plan)

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
            yield lambda seed: run_seed(virtual, seed, self.plan, make_member=self.make)


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
# Some rules are missed in rare weather alone.
FADING = Plan(direct=False, fail_over=False, nodes=3, faults=(("fading database", 6), ("pause", 1)))
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
    Mutation("the session lease is not kept by its holder", "I1 I2 I6", 0, member=TrustsTheRowAlone, plan=SESSIONS),
    Mutation("a session's end is taken for death", "I1 I2 I6", 4, member=seeing_leases(session=0), plan=SESSIONS),
    Mutation(
        "observers wait for less than the session lease",
        "I1 I2 I6",
        4,
        member=seeing_leases(session=0.5),
        plan=SESSIONS,
    ),
    Mutation("observers wait for less than the row lease", "I1 I2 I6", 0, member=seeing_leases(row=0.5), plan=POOLED),
    Mutation(
        "the database's clock decides who is dead",
        "I1 I2 I6",
        1,
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
        16,
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
        3,
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
        1,
        sql=(("beat", " and n.state <> 'fenced'", ""), ("grow", " and n.state = 'live'", "")),
    ),
    Mutation(
        "a fence takes tokens and does not mark the row",
        "I1 I2 I5",
        0,
        sql=(("fence", "set state = 'fenced', last_heartbeat", "set last_heartbeat"),),
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
        7,
        sql=(("recognise_server", "quarantined = m.system_id is not null", "quarantined = false"),),
        plan=FAIL_OVERS,
    ),
    Mutation(
        "the quarantine is lifted at once",
        "I1",
        7,
        patches={"jobsync.core.member.Member._quarantine_ends_sec": lambda self: 0.0},
        plan=FAIL_OVERS,
    ),
    Mutation(
        "an expired belief is revived after a fail-over",
        "I1",
        3,
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
        11,
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
        5,
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
        4,
        sql=(
            (
                "guard_node_delete",
                "if not exists (select from sync_grant g where g.node = old.name) then",
                "if true then",
            ),
        ),
    ),
    Mutation("two are to lead", "I9", 0, member=PlansTwoLeaders),
    Mutation(
        "beats do not read the plan, hints alone do",
        "I9",
        6,
        sql=(("beat", "agreed.plan_version <> _known_plan_version", "_known_plan_version < 0"),),
    ),
)
