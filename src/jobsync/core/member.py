"""One node of the fleet, as a pure state machine: `step(event) -> effects`.

Theory of operation. The member owns no clock, thread or socket. Every event carries the instant at which it is
handled, and every step begins by letting run out what has run out by then: a late tick, a paused process, a slow
database and a blocked thread are one case. At most one question is under way at the database; when none is, the member
picks the most urgent one. What it may answer locally is published as one value with its end written in it.

Who is authoritative: the database for grants (an exclusion constraint), the plan for wishes, this node's boot clock for
its own leases, and each observer's own boot clock for the death of others. No timestamp of the database decides
anything. Safety needs nothing of the leader; what is not promised without one is progress.

The rules are those of the ownership protocol: a lease counts from before the send; belief grows after the
acknowledgement and shrinks before the request; every request names (name, incarnation, bind); a node that the database
does not know any more believes nothing; after a fail-over nothing is revived, and nothing is granted for a whole lease.

The parts stand on each other, each in a file of its own, and know only those below: what is remembered and told
(`member_state`), the own life (`member_life`), the tokens (`member_tokens`), the others (`member_fleet`). Here is what
ties them together: which event goes where, which question is the most urgent, and when something is due.
"""

from typing import assert_never

from jobsync.core import messages as m
from jobsync.core.member_fleet import AmongOthers
from jobsync.core.messages import FactKind, Phase

ENTRY_DEADLINE_SEC = 5.0  # Registering may wait for locks, as when a whole fleet starts at once.
PLAN_DEADLINE_SEC = 5.0  # Reading ten thousands of locks takes longer than a ping.
# Notifications come in bursts: the first is heeded at once, and then one read in so long has the rest.
DEBOUNCE_SEC = 0.003
BUSY_WAIT_SEC = 0.05  # What is overdue waits for the answer under way, which is an event of its own.


class Member(AmongOthers):
    """The decisions of one node. Feed it events in order; carry out the effects in order."""

    def step(self, event: m.Event) -> list[m.Effect]:
        """Take one event in and give the effects to carry out, in order."""
        self._now = event.at
        self._out = []
        if not self._over:
            self._let_run_out()
            self._take(event)
            self._give_up_on_time()
        if not self._over:
            self._ask_next()
            self._publish()
            self._out.append(m.WakeAt(self._next_wake_sec()))
        return self._out

    def _next_wake_sec(self) -> float:
        due = [self._beat_at_sec, self._ping_at_sec, self._leadership.next_due_sec()]
        due.append(self._departure.next_due_sec(online=self._hello is not None))
        due.extend(giving.since_sec + self._timing.handover_sec for giving in self._belief.giving if not giving.drained)
        if self._belief.row is not None:
            due.append(self._belief.row.boot_until_sec)
        if self._hello is None and not self._connecting:
            due.append(self._connect_retry.not_before_sec)
        if self._belief.ready_to_shrink():
            due.append(self._shrink_retry.not_before_sec)
        if self._wanted():
            due.append(max(self._grow_at_sec, self._grow_retry.not_before_sec))
        if self._on_duty:
            due.extend((self._watch_at_sec, self._observer.next_due_sec()))
        if self._me is None and self._hello is not None:
            due.append(self._entry.next_due_sec())
        if self._quarantined_since_sec is not None:
            due.append(self._quarantine_ends_sec())
        if self._refused_retry.not_before_sec > self._now.boot_sec:
            due.append(self._refused_retry.not_before_sec)
        soonest_sec = min(due)
        return soonest_sec if soonest_sec > self._now.boot_sec else self._now.boot_sec + BUSY_WAIT_SEC

    # --- events ------------------------------------------------------------------------------------

    def _take(self, event: m.Event) -> None:  # noqa: C901 - one case an event
        match event:
            case m.Started() | m.Ticked():
                pass
            case m.Connected():
                self._on_connected(event.hello)
            case m.ConnectFailed():
                self._on_connect_failed(event.error)
            case m.Answered():
                self._on_answer(event)
            case m.Refused():
                self._on_refused(event)
            case m.Broken():
                self._on_broken(event.error)
            case m.Notified():
                self._on_notified(event)
            case m.Drained():
                self._belief.drained(event.serial)
            case m.JobsWanted(wanted=wanted):
                self._jobs_wanted = wanted
            case m.LeaveAsked():
                self._on_leave_asked()
            case _:
                assert_never(event)

    def _on_notified(self, hint: m.Notified) -> None:
        now_sec = self._now.boot_sec
        if hint.channel is m.Channel.PLAN:
            if hint.leader not in ("", self.name) and self.phase is not Phase.LEAVING:
                return  # Members came or went: the leader plans, and its plan is a hint of its own.
            self._beat_at_sec = min(self._beat_at_sec, max(now_sec, self._beat_asked_sec + DEBOUNCE_SEC))
        else:
            self._grow_at_sec = min(self._grow_at_sec, max(now_sec, self._grow_asked_sec + DEBOUNCE_SEC))

    def _on_refused(self, event: m.Refused) -> None:
        self._in_flight = None
        now_sec = self._now.boot_sec
        match event.question:
            case m.Shrink():
                self._shrink_retry.failed(now_sec)
            case m.Grow():
                self._grow_retry.failed(now_sec)
                self._grow_at_sec = now_sec
            case m.ReadPlanInputs() | m.SavePlan():
                self._say_all(self._leadership.failed(now_sec))
            case m.Fence() as fence if self._me is not None:
                self._observer.postpone(fence.who, now_sec)
            case _ if self._me is None:
                self._entry.refused(event.question, now_sec)
            case m.Beat() | m.Watch():
                self._beat_at_sec = now_sec + BUSY_WAIT_SEC
            case m.Prune():
                self._leadership.pruned(more=True, now_sec=now_sec)
            case _:
                self._refused_retry.failed(now_sec)
        self._say(FactKind.REFUSED, f"{type(event.question).__name__} is asked again: {event.error}", "debug")

    # --- answers -----------------------------------------------------------------------------------

    def _on_answer(self, event: m.Answered) -> None:
        self._in_flight = None
        self._last_reply = event.at
        if not isinstance(event.question, m.Beat | m.Watch | m.Ping):
            self._refused_retry.succeeded()
        if self._bound:
            self._belief.session = self._session_lease(event.sent)
            self._ping_at_sec = self._ping_after(event.sent)
        match event.answer:
            case m.NotCurrent():
                self._on_fenced()
            case m.Registration() as answer:
                self._on_registration(answer, event.sent)
            case m.Rebound() as answer:
                self._on_rebound(answer, event.sent)
            case m.HeldGrants() as answer:
                self._on_held_grants(answer)
            case m.BeatReply() as answer:
                self._on_beat(answer, event)
            case m.Growth() as answer:
                self._on_growth(answer)
            case m.Shrunk():
                self._on_shrunk(event.question)
            case answer:
                self._on_lesser_answer(event.question, answer)

    def _on_lesser_answer(  # noqa: C901 - one case an answer
        self,
        question: m.Question,
        answer: m.Sightings
        | m.FenceReply
        | m.PlanInputs
        | m.PlanSaved
        | m.QuarantineLifted
        | m.Pruned
        | m.LeaveBegun
        | m.Left
        | m.JobsHeard
        | m.Pong,
    ) -> None:
        match answer:
            case m.Sightings():
                self._on_sightings(answer)
            case m.FenceReply():
                self._on_fence(question, answer)
            case m.PlanInputs():
                self._leadership.take_inputs(answer)
            case m.PlanSaved():
                self._say_all(self._leadership.saved(answer.version, self._now.boot_sec))
                self._beat_at_sec = self._now.boot_sec
            case m.QuarantineLifted():
                self._quarantined_since_sec = None
                self._grow_at_sec = self._now.boot_sec
            case m.Pruned():
                self._leadership.pruned(more=answer.more, now_sec=self._now.boot_sec)
            case m.LeaveBegun():
                self._departure.announced()
                self._live = answer.live
            case m.Left():
                self._say(FactKind.LEFT, "left the fleet")
                self._finish(Phase.LEFT, None)
            case m.JobsHeard():
                self._jobs_heard = isinstance(question, m.HearJobs) and question.wanted
            case m.Pong():
                pass
            case _:
                assert_never(answer)

    # --- asking ------------------------------------------------------------------------------------

    def _ask_next(self) -> None:
        if self._hello is None:
            if not self._connecting and self._now.boot_sec >= self._connect_retry.not_before_sec:
                self._connecting = True
                self._out.append(m.OpenSession())
        elif self._in_flight is None:
            question = self._next_question(self._hello)
            if question is not None:
                self._in_flight = question
                self._publish()  # Readers stop believing before the database may hear of it.
                self._out.append(m.Ask(question, self._now.boot_sec + self._deadline_sec(question)))

    def _deadline_sec(self, question: m.Question) -> float:
        match question:
            case m.Register() | m.Rebind() | m.WatchForEntry():
                return ENTRY_DEADLINE_SEC
            case m.ReadPlanInputs() | m.SavePlan():
                return PLAN_DEADLINE_SEC
            case _:
                return self._timing.operation_deadline_sec

    def _next_question(self, hello: m.Hello) -> m.Question | None:
        if self._me is None:
            return self._entry.question(self._now.boot_sec, hello, self._timing_when_bound)
        if self._now.boot_sec < self._refused_retry.not_before_sec:
            return self._upkeep_question(self._me) if self._bound else None
        if not self._bound:
            return self._rebind_question(self._me, hello)
        if self.phase is Phase.LEAVING:
            return self._leave_question(self._me) or self._upkeep_question(self._me)
        return self._live_question(self._me) or self._upkeep_question(self._me)

    def _live_question(self, me: m.Identity) -> m.Question | None:
        now_sec = self._now.boot_sec
        if self._reread:
            return m.ReadGrants(self.name, me.incarnation, self._server_to_name())
        if self._quarantine_is_over():
            return m.LiftQuarantine(self._generation or 0)
        shrink = self._shrink_question(me)
        if shrink is not None:
            return shrink
        if self._on_duty:
            for suspect in self._observer.suspects(now_sec):
                return suspect.fence(now_sec)
        if now_sec >= self._beat_at_sec:
            return None  # The beat comes first: what follows rests on what it brings.
        return (
            self._leadership.question(me, now_sec)
            or self._grow_question(me)
            or self._jobs_question()
            or self._prune_question()
        )

    def _upkeep_question(self, me: m.Identity) -> m.Question | None:
        now_sec = self._now.boot_sec
        if now_sec >= self._beat_at_sec:
            return self._beat_question(me)
        if self._on_duty and now_sec >= self._watch_at_sec:
            self._watch_at_sec = now_sec + self._timing.watch_every_sec
            return m.Watch(self.name)
        if now_sec >= self._ping_at_sec:
            return m.Ping()
        return None
