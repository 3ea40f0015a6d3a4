"""A member among the others: beats, watching whether others live, fencing the dead, and planning where it leads.

Others are judged by this node's own clock (see `Observer`), and the plan is a matter of progress alone (see
`Leadership`): this part asks the questions of both and takes the answers in.
"""

from jobsync.core import messages as m
from jobsync.core.member_tokens import Ownership
from jobsync.core.messages import FactKind, Phase
from jobsync.core.pool import pool_of
from jobsync.core.settings import observer_wait_sec
from jobsync.core.tokens import TokenSet

POLL_SEC = 1.0  # Behind a pooler no notification arrives.


class AmongOthers(Ownership):
    """What one node hears of the fleet, and does for it."""

    # --- beats -------------------------------------------------------------------------------------

    def _beat_question(self, me: m.Identity) -> m.Question:
        has_its_share = self._target is not None and self._share == self._belief.pool
        settled = has_its_share and not pool_of(self._belief.all_giving)
        self._beat_asked_sec = self._now.boot_sec
        return m.Beat(
            me=me,
            applied_version=self._plan_version if settled else 0,
            known_plan_version=self._plan_version if self._target is not None else -1,
            check=self._leadership.is_mine and self._now.boot_sec >= self._check_at_sec,
            server=self._server_to_name(),
        )

    def _on_beat(self, reply: m.BeatReply, event: m.Answered) -> None:
        sent = event.sent
        self._renew_row(sent)
        if isinstance(event.question, m.Beat) and event.question.check:
            self._check_at_sec = sent.boot_sec + self.settings.rebalance_check_interval_sec
            self._checked = True
        self._leadership.note(leader=reply.leader, plan_due=reply.plan_due)
        self._beat_at_sec = sent.boot_sec + self._beat_every_sec()
        # The longest that was ever seen counts: after a fail-over its holder's row may be fenced early, or lost.
        self._longest_lease_sec = max(self._longest_lease_sec, reply.longest_lease_ms / 1000)
        self._set_quarantine(quarantined=reply.quarantined)
        self._live = reply.live
        self._take_duty(on_duty=reply.elders < 2 and reply.members > 1)
        came_or_went = self._roster not in ("", reply.roster)
        self._roster = reply.roster
        self._planned = reply.planned
        self._plan_version = reply.plan_version if reply.planned else -1
        if reply.target is not None:
            self._target, self._share = reply.target, pool_of(reply.target)
        if self.phase is Phase.LIVE:
            if came_or_went:
                self._tell(TokenSet(), TokenSet(), "members changed")
            self._follow_target()
            if self.takes_tokens and self._target is not None and not self._share and not self._told:
                self._tell(TokenSet(), TokenSet(), m.NOTHING_TO_OWN)

    def _beat_every_sec(self) -> float:
        every_sec = self._timing.beat_every_sec(self._now.boot_sec - self._live_since_sec)
        if self._leadership.is_mine:
            every_sec = min(every_sec, self.settings.rebalance_check_interval_sec)
        if self._hello is not None and not self._hello.direct:
            every_sec = min(every_sec, POLL_SEC)
        return every_sec

    # --- watching others ---------------------------------------------------------------------------

    def _take_duty(self, *, on_duty: bool) -> None:
        if on_duty and not self._on_duty:
            self._watch_at_sec = self._now.boot_sec
        self._on_duty = on_duty

    def _on_sightings(self, answer: m.Sightings) -> None:
        if self._me is not None:
            self._observer.look(self._now.boot_sec, answer.nodes)
            return
        refusal = self._entry.look(self._now.boot_sec, answer)
        if refusal is not None:
            self._finish(Phase.FAILED, refusal)

    def _on_fence(self, question: m.Question, answer: m.FenceReply) -> None:
        assert isinstance(question, m.Fence)
        who = question.who
        if self._me is None:
            self._entry.fenced(who, self._now.boot_sec)
        else:
            self._observer.forget(who)
        if answer.done:
            why = "no heartbeat for a whole lease" if question.rule == "A" else "its session is gone"
            text = f"fenced node {who.name!r} (incarnation {who.incarnation}): {why}"
            self._say(FactKind.FENCED_OTHER, text, "warning", other=who.name, other_incarnation=who.incarnation)
            if self._me is not None:
                self._beat_at_sec = self._now.boot_sec

    # --- after a fail-over, and for the leader -----------------------------------------------------

    def _quarantine_ends_sec(self) -> float:
        lease_sec = max(self._timing.row_lease_sec, self._longest_lease_sec)
        return (self._quarantined_since_sec or 0.0) + observer_wait_sec(lease_sec)

    def _quarantine_is_over(self) -> bool:
        # A newcomer that no beat has told of the others' leases knows only its own, and theirs may be longer.
        if self._quarantined_since_sec is None or not self._longest_lease_sec:
            return False
        return self._now.boot_sec >= self._quarantine_ends_sec()

    def _prune_question(self) -> m.Question | None:
        # With the first check after taking the lead, not before: entering and taking over come first.
        if not self._checked:
            return None
        return self._leadership.prune_question(self._now.boot_sec)

    def _jobs_question(self) -> m.Question | None:
        direct = self._hello is not None and self._hello.direct  # Behind a pooler no notification arrives.
        return m.HearJobs(self._jobs_wanted) if direct and self._jobs_wanted != self._jobs_heard else None
