"""A member's tokens: following the plan by giving up and taking.

Belief grows after the acknowledgement and shrinks before the request. What is to be given up is drained first, by the
application's side, and for a bounded time; what is wanted is asked for when it may be free.
"""

from jobsync.core import messages as m
from jobsync.core.departure import Step
from jobsync.core.member_life import Life
from jobsync.core.member_state import NEVER
from jobsync.core.messages import FactKind, Phase
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.tokens import TokenSet


class Ownership(Life):
    """What the plan wants, what is believed, and the way from the one to the other."""

    def _wanted(self) -> TokenSet:
        if self._target is None or self.phase is not Phase.LIVE or self._target == self._belief.tokens:
            return TokenSet()
        return self._target - self._belief.tokens - self._belief.all_giving

    def _follow_target(self) -> None:
        if self._target is None or self._reread:
            return
        self._hand_over(self._belief.tokens - self._target, "rebalance")
        if self._note_wanted():
            self._grow_at_sec = min(self._grow_at_sec, self._now.boot_sec)

    def _note_wanted(self) -> bool:
        """Tell whether tokens are wanted that are not held, and remember since when."""
        if not self._wanted():
            self._wants_since_sec = None
        elif self._wants_since_sec is None:
            self._wants_since_sec = self._now.boot_sec
        return self._wants_since_sec is not None

    # --- giving up ---------------------------------------------------------------------------------

    def _give_up_on_time(self) -> None:
        for giving in self._belief.overdue(self._now.boot_sec - self._timing.handover_sec):
            giving.drained = True
            what, remedy = f"{len(giving.tokens)} tokens were", "keep on_tokens_removed and task bodies shorter"
            if giving.tokens == RIGHT_TO_LEAD:
                what, remedy = "the right to lead was", "let bodies of job.leader() and singletons end on lead.lost"
            text = (
                f"{what} not let go of within {self._timing.handover_sec:g} s and handed over all the same: {remedy}, "
                "or raise handover_timeout_sec"
            )
            self._say(FactKind.HANDOVER_OVERDUE, text, "warning")
        offline = self._hello is None and self._departure.asked_sec is not None and not self._over
        if offline and (self.phase is Phase.NEW or self._departure.gives_up_offline(self._now.boot_sec)):
            self._finish(Phase.LEFT, None)

    def _shrink_question(self, me: m.Identity) -> m.Question | None:
        tokens = self._belief.ready_to_shrink()
        if tokens and self._now.boot_sec >= self._shrink_retry.not_before_sec:
            since_sec = self._belief.uncovered_since_sec(tokens)
            assert since_sec is not None
            return m.Shrink(me, tokens, round(1000 * (self._now.boot_sec - since_sec)))
        return None

    def _on_shrunk(self, question: m.Question) -> None:
        assert isinstance(question, m.Shrink)
        self._shrink_retry.succeeded()
        since_sec = self._belief.uncovered_since_sec(question.tokens)
        took_sec = None if since_sec is None else self._now.boot_sec - since_sec
        self._belief.shrunk(question.tokens)
        self._grow_at_sec = self._now.boot_sec
        if LEADERSHIP in question.tokens:
            self._say(FactKind.LEADS_NO_MORE, "the right to lead is given up")
        if freed := pool_of(question.tokens):
            text = f"{len(freed)} tokens given up"
            self._say(FactKind.GAVE_UP, text, count=len(freed), took_sec=took_sec, version=max(self._plan_version, 0))

    def _leave_question(self, me: m.Identity) -> m.Question | None:
        if self._reread:
            return m.ReadGrants(self.name, me.incarnation, self._server_to_name())
        # A tokenless node that does not lead has nothing that a successor could take.
        successors_named = self._live == 0 or not self._planned or not (self.takes_tokens or self._belief.tokens)
        match self._departure.step(self._now.boot_sec, successors_named=successors_named):
            case Step.ANNOUNCE:
                return m.BeginLeave(me)
            case Step.WAIT:
                return None
            case Step.HAND_OVER | Step.FINISH_HANDOVER:
                self._departure.shed()
                self._hand_over(self._belief.tokens, None)
        return self._shrink_question(me) if self._belief.giving else m.Leave(me)

    # --- taking ------------------------------------------------------------------------------------

    def _grow_question(self, me: m.Identity) -> m.Question | None:
        if self._now.boot_sec < max(self._grow_at_sec, self._grow_retry.not_before_sec) or not self._wanted():
            return None
        if self._quarantined_since_sec is not None:
            self._grow_at_sec = NEVER
            return None
        # What others still hold is asked for when they free it, which may be before the answer, or with the next beat.
        self._grow_at_sec, self._grow_asked_sec = NEVER, self._now.boot_sec
        return m.Grow(me, self._server_to_name())

    def _on_growth(self, growth: m.Growth) -> None:
        self._grow_retry.succeeded()
        if growth.outcome == "fenced":
            self._beat_at_sec = self._now.boot_sec
        if growth.outcome == "quarantined":
            self._set_quarantine(quarantined=True)
        grant = growth.grant
        if grant is None:
            return
        if grant.tokens & self._belief.tokens or any(grant.epoch <= held.epoch for held in self._belief.grants):
            self._violation(f"the grant of epoch {grant.epoch} repeats tokens that are held, or its epoch did not grow")
            return
        self._belief.believe(grant)
        if LEADERSHIP in grant.tokens:
            self._say(FactKind.LEADS, f"leads the fleet under epoch {grant.epoch}", epoch=grant.epoch)
        took_sec = None if self._wants_since_sec is None else self._now.boot_sec - self._wants_since_sec
        self._note_wanted()
        if added := pool_of(grant.tokens):
            text = f"{len(added)} tokens granted under epoch {grant.epoch}"
            self._say(
                FactKind.GRANTED,
                text,
                count=len(added),
                took_sec=took_sec,
                version=max(self._plan_version, 0),
                epoch=grant.epoch,
            )
            self._tell(TokenSet(), added, "rebalance")

    def _on_held_grants(self, answer: m.HeldGrants) -> None:
        self._reread = False
        if self._stranger:
            removed, added = self._belief.reconcile_with_stranger(answer.grants, self._now.boot_sec), TokenSet()
            self._stranger = False
        else:
            removed, added = self._belief.reconcile(answer.grants)
        if self.phase is Phase.LIVE and (removed or added):
            self._tell(removed, added, "session restored")
