"""What the leader does: see that the plan fits the fleet, and write a new one where it does not.

Any node may believe that it leads; the plan's compare-and-set lets one of them write, and a plan grants nothing. So
nothing here needs to be exclusive, and nothing here holds a lock from one question to the next.
"""

from jobsync.core import messages as m
from jobsync.core.messages import Fact, FactKind
from jobsync.core.planning import Plan, make_plan
from jobsync.core.retry import Retry
from jobsync.core.settings import Settings

NEVER = float("inf")
TOLD_AT_ONCE = 5
PRUNE_EVERY_SEC = 3600.0
PRUNE_MORE_SEC = 0.1


class Leadership:
    """The leader's duty of one node: read the inputs, make the plan, save it, say what is odd about the locks."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.leader: str | None = None
        self._name = name
        self._settings = settings
        self._due = False
        self._inputs: m.PlanInputs | None = None
        self._written: Plan | None = None
        self._began_sec = 0.0
        self._retry = Retry(name, 0.02, 1.0)
        self._refused_since_sec: float | None = None
        self._said_of_locks: tuple[object, ...] = ((), ())
        self._prune_at_sec = 0.0

    @property
    def is_mine(self) -> bool:
        """Whether this node is the oldest live one, as of the last beat."""
        return self.leader == self._name

    def note(self, *, leader: str | None, plan_due: bool) -> None:
        """Take in what a beat said."""
        self.leader = leader
        self._due = plan_due

    def next_due_sec(self) -> float:
        """Tell when there is something to ask."""
        return self._retry.not_before_sec if self._due and self.is_mine else NEVER

    def question(self, me: m.Identity, now_sec: float) -> m.Question | None:
        """Give the next question of a leader, if any is due."""
        if self._inputs is not None:
            inputs, self._inputs = self._inputs, None
            return self._save(me, inputs)
        if self._due and self.is_mine and now_sec >= self._retry.not_before_sec:
            self._began_sec = now_sec
            return m.ReadPlanInputs(self._settings.locks_enabled)
        return None

    def prune_question(self, now_sec: float) -> m.Question | None:
        """Give the question that deletes old rows, about once an hour; in small bites while there is more."""
        if not self.is_mine or now_sec < self._prune_at_sec:
            return None
        self._prune_at_sec = now_sec + PRUNE_EVERY_SEC
        settings = self._settings
        return m.Prune(
            settings.claim_retention_days,
            settings.audit_retention_days,
            settings.rebalance_retention_days,
            settings.dead_node_retention_days,
        )

    def pruned(self, *, more: bool, now_sec: float) -> None:
        """Take in whether old rows are left."""
        if more:
            self._prune_at_sec = now_sec + PRUNE_MORE_SEC

    def take_inputs(self, inputs: m.PlanInputs) -> None:
        """Keep the snapshot; the plan is made when it is to be saved."""
        self._inputs = inputs

    def _save(self, me: m.Identity, inputs: m.PlanInputs) -> m.SavePlan:
        plan = self._written = make_plan(inputs)
        return m.SavePlan(
            me=me,
            plan_version=inputs.plan_version,
            lock_version=inputs.lock_version,
            nodes=plan.nodes,
            targets=plan.changed,
            reason=plan.reason,
            nodes_before=plan.nodes_before,
            tokens_moved=plan.tokens_moved,
            moves=plan.moves,
            began_at=inputs.began_at,
            tokenless=inputs.tokenless,
        )

    def saved(self, version: int | None, now_sec: float) -> list[Fact]:
        """Take in whether the plan was saved; None: somebody planned in between."""
        plan, self._written = self._written, None
        if version is None or plan is None:
            return self.failed(now_sec)
        self._retry.succeeded()
        self._refused_since_sec = None
        self._due = False
        facts = []
        if plan.tokens_moved:
            text = f"plan {version}: {plan.tokens_moved} tokens move among {len(plan.takers)} nodes ({plan.reason})"
            details = (
                ("version", version),
                ("reason", plan.reason),
                ("nodes_before", plan.nodes_before),
                ("nodes_after", len(plan.takers)),
            )
            took_sec = now_sec - self._began_sec
            facts.append(Fact(FactKind.PLANNED, text, count=plan.tokens_moved, took_sec=took_sec, details=details))
        return facts + self._facts_on_locks(plan)

    def failed(self, now_sec: float) -> list[Fact]:
        """A lock was held, or the plan was stale: ask again later, and warn when that lasts too long."""
        self._retry.failed(now_sec)
        if self._refused_since_sec is None:
            self._refused_since_sec = now_sec
        patience_sec = self._settings.leader_lock_timeout_sec
        if now_sec - self._refused_since_sec <= patience_sec:
            return []
        self._refused_since_sec = None
        self._retry.not_before_sec = now_sec + self._settings.rebalance_check_interval_sec
        text = (
            f"no plan could be written for {patience_sec:g} s: another session holds the plan lock; "
            "look for it in pg_locks (locktype advisory)"
        )
        return [Fact(FactKind.REFUSED, text, "warning")]

    def session_lost(self) -> None:
        """Forget what was read: the session that would have saved it is gone."""
        self._inputs = None

    def _facts_on_locks(self, plan: Plan) -> list[Fact]:
        """Warn once a change, not once a plan."""
        if (plan.unmatched, plan.conflicts) == self._said_of_locks:
            return []
        self._said_of_locks = (plan.unmatched, plan.conflicts)
        facts = [Fact(FactKind.LOCKS_CONFLICT, text, "warning") for text in plan.conflicts[:TOLD_AT_ONCE]]
        if plan.unmatched:
            some = ", ".join(repr(task) for task in plan.unmatched[:TOLD_AT_ONCE])
            text = (
                f"{len(plan.unmatched)} locks match no live node and count as unlocked (tasks {some}): start a node "
                "with a matching name, or widen their patterns"
            )
            facts.append(Fact(FactKind.LOCKS_UNMATCHED, text, "warning"))
        return facts
