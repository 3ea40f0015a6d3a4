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
"""

from typing import assert_never

from jobsync.core import messages as m
from jobsync.core.belief import Belief
from jobsync.core.departure import Departure, Step
from jobsync.core.entry import Entry, milliseconds
from jobsync.core.errors import JobsyncError
from jobsync.core.leadership import Leadership
from jobsync.core.leases import Instant, Lease
from jobsync.core.messages import Fact, FactKind, Phase
from jobsync.core.observer import Observer
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.retry import Retry
from jobsync.core.settings import Settings, Timing, observer_wait_sec, session_lease_for
from jobsync.core.tokens import TokenSet

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.NEW: frozenset({Phase.LIVE, Phase.LEFT, Phase.FAILED}),
    Phase.LIVE: frozenset({Phase.NEW, Phase.LEAVING}),
    Phase.LEAVING: frozenset({Phase.LEFT}),
    Phase.LEFT: frozenset(),
    Phase.FAILED: frozenset(),
}

ENTRY_DEADLINE_SEC = 5.0  # Registering may wait for locks, as when a whole fleet starts at once.
PLAN_DEADLINE_SEC = 5.0  # Reading ten thousands of locks takes longer than a ping.
DEBOUNCE_SEC = 0.003  # Notifications come in bursts; the read after the wake-up is what costs.
POLL_SEC = 1.0  # Behind a pooler no notification arrives.
BUSY_WAIT_SEC = 0.05  # What is overdue waits for the answer under way, which is an event of its own.
NEVER = float("inf")


class Member:
    """The decisions of one node. Feed it events in order; carry out the effects in order."""

    def __init__(self, name: str, settings: Settings, *, takes_tokens: bool = True) -> None:
        self.name = name
        self.takes_tokens = takes_tokens
        self.settings = settings
        self.phase = Phase.NEW
        self._now = Instant(0.0, 0.0)
        self._out: list[m.Effect] = []
        self._published: m.Standing | None = None

        # The session, and what is under way on it.
        self._hello: m.Hello | None = None
        self._connecting = False
        self._in_flight: m.Question | None = None
        self._last_reply: Instant | None = None
        self._connect_retry = Retry(name, 0.05, 2.0)
        self._refused_retry = Retry(name, 0.02, 1.0)
        self._lease_told_sec = settings.session_lease_sec

        # This registration. A new session's timing counts only once the database has bound the session.
        self._me: m.Identity | None = None
        self._bound = False
        self._timing = Timing.of(settings, session_lease_sec=None)
        self._timing_when_bound = self._timing
        self._generation: int | None = None
        self._server: tuple[str, str] | None = None
        self._rebinds = 0
        self._stranger = False
        self._reread = False
        self._live_since_sec = 0.0

        # Ownership: what the plan wants, what is believed.
        self._belief = Belief()
        self._target: TokenSet | None = None
        self._share = TokenSet()  # The target without the right to lead: what applications are told of.
        self._planned = False
        self._plan_version = -1
        self._told = False
        self._quarantined_since_sec: float | None = None
        self._longest_lease_sec = 0.0

        # The others.
        self._live = 0
        self._roster = ""
        self._on_duty = False
        self._observer = Observer()
        self._leadership = Leadership(name, settings)
        self._entry = Entry(name, settings, takes_tokens=takes_tokens)
        self._departure = Departure()

        # When what is due.
        self._beat_at_sec = NEVER
        self._check_at_sec = 0.0
        self._checked = False
        self._watch_at_sec = NEVER
        self._ping_at_sec = NEVER
        self._grow_at_sec = NEVER
        self._grow_retry = Retry(name, 0.01, 0.5)
        self._shrink_retry = Retry(name, 0.02, 0.5)

        # Whether this process wants to hear of jobs, and whether this session does.
        self._jobs_wanted = False
        self._jobs_heard = False

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

    @property
    def _over(self) -> bool:
        return not TRANSITIONS[self.phase]

    # --- time --------------------------------------------------------------------------------

    def _let_run_out(self) -> None:
        row = self._belief.row
        if row is not None and self._now.boot_sec >= row.boot_until_sec:
            self._belief.row = None
            self._reread = True
            self._lose(self._belief.drop(), "lease ran out", FactKind.LEASE_RAN_OUT)

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

    def _beat_every_sec(self) -> float:
        every_sec = self._timing.beat_every_sec(self._now.boot_sec - self._live_since_sec)
        if self._leadership.is_mine:
            every_sec = min(every_sec, self.settings.rebalance_check_interval_sec)
        if self._hello is not None and not self._hello.direct:
            every_sec = min(every_sec, POLL_SEC)
        return every_sec

    def _quarantine_ends_sec(self) -> float:
        lease_sec = max(self._timing.row_lease_sec, self._longest_lease_sec)
        return (self._quarantined_since_sec or 0.0) + observer_wait_sec(lease_sec)

    # --- events ------------------------------------------------------------------------------

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

    def _on_connected(self, hello: m.Hello) -> None:
        self._connecting = False
        self._bound = self._jobs_heard = False
        self._hello = hello
        self._connect_retry.succeeded()
        lease_sec = session_lease_for(self.settings, hello.round_trip_sec) if hello.direct else None
        if lease_sec != self._lease_told_sec:
            self._lease_told_sec = lease_sec
            self._say_session_lease(hello, lease_sec)
        self._timing_when_bound = Timing.of(self.settings, session_lease_sec=lease_sec)
        if not hello.durable:
            text = "the server runs with fsync off: a crash of its machine may lose grants, and with them exclusivity"
            self._say(FactKind.NOT_DURABLE, text, "warning")

    def _say_session_lease(self, hello: m.Hello, lease_sec: float | None) -> None:
        asked_sec = self.settings.session_lease_sec
        if not hello.direct and asked_sec is not None:
            text = (
                "a pooler stands between this node and the server: death is noticed by the row lease alone, after "
                f"{self.settings.heartbeat_timeout_sec:g} s; give session_dsn a direct connection for under a second"
            )
            self._say(FactKind.SESSION_LEASE_OFF, text, "warning")
        elif hello.direct and lease_sec is None and asked_sec is not None:
            text = (
                f"round trips take {hello.round_trip_sec * 1000:.0f} ms, too long for a session lease: death is "
                f"noticed by the row lease alone, after {self.settings.heartbeat_timeout_sec:g} s"
            )
            self._say(FactKind.SESSION_LEASE_OFF, text, "warning")
        elif lease_sec is not None and asked_sec is not None and lease_sec > asked_sec:
            text = (
                f"round trips take {hello.round_trip_sec * 1000:.0f} ms: session_lease_sec is raised from "
                f"{asked_sec:g} to {lease_sec:g}"
            )
            self._say(FactKind.SESSION_LEASE_RAISED, text)

    def _on_connect_failed(self, error: JobsyncError) -> None:
        self._connecting = False
        if self._last_reply is None:
            self._finish(Phase.FAILED, error)
            return
        self._connect_retry.failed(self._now.boot_sec)

    def _on_broken(self, error: str) -> None:
        self._say(FactKind.SESSION_BROKEN, f"the database session broke: {error}", "warning")
        self._connecting = False
        self._hello = None
        self._bound = self._jobs_heard = False
        self._in_flight = None
        self._connect_retry.not_before_sec = self._now.boot_sec
        self._leadership.session_lost()
        self._observer.own_session_broke(self._now.boot_sec)
        self._entry.session_lost(self._now.boot_sec)

    def _on_notified(self, hint: m.Notified) -> None:
        soon_sec = self._now.boot_sec + DEBOUNCE_SEC
        if hint.channel is m.Channel.PLAN:
            if hint.leader not in ("", self.name) and self.phase is not Phase.LEAVING:
                return  # Members came or went: the leader plans, and its plan is a hint of its own.
            self._beat_at_sec = min(self._beat_at_sec, soon_sec)
        else:
            self._grow_at_sec = min(self._grow_at_sec, soon_sec)

    def _on_refused(self, event: m.Refused) -> None:
        self._in_flight = None
        now_sec = self._now.boot_sec
        match event.question:
            case m.Shrink():
                self._shrink_retry.failed(now_sec)
            case m.Grow():
                self._grow_retry.failed(now_sec)
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

    def _on_leave_asked(self) -> None:
        self._departure.ask(self._now.boot_sec)
        if self.phase is Phase.LIVE:
            self._enter(Phase.LEAVING)
        elif self.phase is Phase.NEW and not isinstance(self._in_flight, m.Register):
            self._finish(Phase.LEFT, None)

    # --- answers -----------------------------------------------------------------------------

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

    def _session_lease(self, sent: Instant) -> Lease | None:
        lease_sec = self._timing.session_lease_sec
        return None if lease_sec is None else Lease(sent, lease_sec)

    def _ping_after(self, sent: Instant) -> float:
        return NEVER if self._timing.session_lease_sec is None else sent.boot_sec + self._timing.ping_every_sec

    def _on_registration(self, answer: m.Registration, sent: Instant) -> None:
        if answer.outcome != "registered" or answer.incarnation is None or answer.bind is None:
            if self._departure.asked_sec is not None:
                self._finish(Phase.LEFT, None)
                return
            if not self._entry.waits_for_name and answer.outcome == "held":
                text = f"another process holds the name {self.name!r}: watching whether it lives"
                self._say(FactKind.WAITING_FOR_NAME, text)
            self._entry.blocked(answer, self._now.boot_sec)
            return
        self._observer = Observer()
        self._note_server(answer.generation)
        self._rebinds = 0
        self._stranger = False
        self._live_since_sec = self._now.boot_sec
        self._check_at_sec = self._now.boot_sec + self.settings.rebalance_check_interval_sec
        self._target, self._plan_version, self._roster = None, -1, ""
        self._set_quarantine(quarantined=bool(answer.quarantined))
        self._bind(m.Identity(self.name, answer.incarnation, answer.bind), sent)
        self._enter(Phase.LIVE)
        if self._departure.asked_sec is not None:
            self._enter(Phase.LEAVING)
        self._say(FactKind.REGISTERED, f"registered as incarnation {answer.incarnation}")

    def _on_rebound(self, answer: m.Rebound, sent: Instant) -> None:
        assert self._me is not None
        if self._note_server(answer.generation):
            self._meet_stranger()
        self._reread = True
        self._set_quarantine(quarantined=answer.quarantined)
        self._bind(m.Identity(self.name, self._me.incarnation, answer.bind), sent)
        self._say(FactKind.REBOUND, f"session bound anew as {answer.bind}")

    def _note_server(self, generation: int | None) -> bool:
        """Remember whose rows these are; True when they are another server's or timeline's than before."""
        assert self._hello is not None
        server = (self._hello.system_id, self._hello.timeline)
        # The generation alone would not do: it stands in rows that a fail-over may roll back.
        changed = (self._generation, self._server) != (generation, server)
        self._generation, self._server = generation, server
        return changed

    def _meet_stranger(self) -> None:
        """Trust nothing of a server that may lack commits, until a whole lease has passed and the rows are read."""
        self._stranger = True
        self._quarantined_since_sec = None
        self._target, self._plan_version = None, -1
        with_session = self._timing.session_lease_sec is not None
        if not self._belief.certain_at(self._now, with_session=with_session):
            # Only an unbroken lease proves that nobody was granted these tokens in commits that are lost.
            self._lose(self._belief.drop(), "fail-over", FactKind.LEASE_RAN_OUT)

    def _bind(self, identity: m.Identity, sent: Instant) -> None:
        self._timing = self._timing_when_bound
        self._plan_version = -1  # A crash may have taken a plan back, and its number may name another one now.
        self._me = identity
        self._bound = True
        self._renew_row(sent)
        self._belief.session = self._session_lease(sent)
        self._ping_at_sec = self._ping_after(sent)
        self._beat_at_sec = self._watch_at_sec = self._now.boot_sec

    def _renew_row(self, sent: Instant) -> None:
        # Until the rows of another server are read, the belief lives on the lease it had, and not a moment longer.
        if not self._stranger:
            self._belief.row = Lease(sent, self._timing.row_lease_sec)

    def _on_held_grants(self, answer: m.HeldGrants) -> None:
        self._reread = False
        if self._stranger:
            removed, added = self._belief.reconcile_with_stranger(answer.grants, self._now.boot_sec), TokenSet()
            self._stranger = False
        else:
            removed, added = self._belief.reconcile(answer.grants)
        if self.phase is Phase.LIVE and (removed or added):
            self._tell(removed, added, "session restored")

    def _on_beat(self, reply: m.BeatReply, event: m.Answered) -> None:
        sent = event.sent
        self._renew_row(sent)
        if isinstance(event.question, m.Beat) and event.question.check:
            self._check_at_sec = sent.boot_sec + self.settings.rebalance_check_interval_sec
            self._checked = True
        self._leadership.note(leader=reply.leader, plan_due=reply.plan_due)
        self._beat_at_sec = sent.boot_sec + self._beat_every_sec()
        self._longest_lease_sec = reply.longest_lease_ms / 1000
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

    def _take_duty(self, *, on_duty: bool) -> None:
        if on_duty and not self._on_duty:
            self._watch_at_sec = self._now.boot_sec
        self._on_duty = on_duty

    def _follow_target(self) -> None:
        if self._target is None or self._reread:
            return
        self._hand_over(self._belief.tokens - self._target, "rebalance")
        if self._wanted():
            self._grow_at_sec = min(self._grow_at_sec, self._now.boot_sec)

    def _wanted(self) -> TokenSet:
        if self._target is None or self.phase is not Phase.LIVE or self._target == self._belief.tokens:
            return TokenSet()
        return self._target - self._belief.tokens - self._belief.all_giving

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
            self._say(FactKind.FENCED_OTHER, text, "warning")
            if self._me is not None:
                self._beat_at_sec = self._now.boot_sec

    def _on_growth(self, growth: m.Growth) -> None:
        self._grow_retry.succeeded()
        self._grow_at_sec = NEVER  # What others still hold is asked for when they free it, or with the next beat.
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
            self._say(FactKind.LEADS, f"leads the fleet under epoch {grant.epoch}")
        if added := pool_of(grant.tokens):
            self._say(FactKind.GRANTED, f"{len(added)} tokens granted under epoch {grant.epoch}")
            self._tell(TokenSet(), added, "rebalance")

    def _on_shrunk(self, question: m.Question) -> None:
        assert isinstance(question, m.Shrink)
        self._shrink_retry.succeeded()
        self._belief.shrunk(question.tokens)
        self._grow_at_sec = self._now.boot_sec
        if LEADERSHIP in question.tokens:
            self._say(FactKind.LEADS_NO_MORE, "the right to lead is given up")
        if freed := pool_of(question.tokens):
            self._say(FactKind.GAVE_UP, f"{len(freed)} tokens given up")

    def _on_fenced(self) -> None:
        if self.phase is Phase.LEAVING:
            self._finish(Phase.LEFT, None)
            return
        self._me = None
        self._bound = False
        self._target = None
        self._reread = self._on_duty = False
        self._beat_at_sec = self._watch_at_sec = self._ping_at_sec = NEVER
        self._leadership.note(leader=None, plan_due=False)
        self._entry = Entry(self.name, self.settings, takes_tokens=self.takes_tokens)
        lost = self._belief.forget()
        self._enter(Phase.NEW)
        self._lose(lost, "fenced", FactKind.FENCED_BY_OTHERS)

    # --- asking ------------------------------------------------------------------------------

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

    def _rebind_question(self, me: m.Identity, hello: m.Hello) -> m.Question:
        lease_sec, old_sec = self._timing_when_bound.session_lease_sec, self._timing.session_lease_sec
        if lease_sec is not None and (old_sec is None or lease_sec < old_sec):
            # Observers count by the shorter lease as soon as the row says so, whether or not the answer arrives.
            self._timing = self._timing_when_bound
            session = self._belief.session
            self._belief.session = None if session is None else Lease(session.sent, lease_sec)
        lease_ms = None if lease_sec is None else milliseconds(lease_sec)
        self._rebinds += 1
        return m.Rebind(me.name, me.incarnation, self._rebinds, lease_ms, hello.system_id, hello.timeline)

    def _leave_question(self, me: m.Identity) -> m.Question | None:
        if self._reread:
            return m.ReadGrants(self.name, me.incarnation)
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

    def _shrink_question(self, me: m.Identity) -> m.Question | None:
        tokens = self._belief.ready_to_shrink()
        if tokens and self._now.boot_sec >= self._shrink_retry.not_before_sec:
            return m.Shrink(me, tokens)
        return None

    def _live_question(self, me: m.Identity) -> m.Question | None:
        now_sec = self._now.boot_sec
        if self._reread:
            return m.ReadGrants(self.name, me.incarnation)
        if self._quarantined_since_sec is not None and now_sec >= self._quarantine_ends_sec():
            return m.LiftQuarantine(self._generation or 0)
        shrink = self._shrink_question(me)
        if shrink is not None:
            return shrink
        if self._on_duty:
            for suspect in self._observer.suspects(now_sec):
                return m.Fence(suspect.who, suspect.beats, suspect.rule)
        if now_sec >= self._beat_at_sec:
            return None  # The beat comes first: what follows rests on what it brings.
        return (
            self._leadership.question(me, now_sec)
            or self._grow_question(me)
            or self._jobs_question()
            or self._prune_question()
        )

    def _jobs_question(self) -> m.Question | None:
        direct = self._hello is not None and self._hello.direct  # Behind a pooler no notification arrives.
        return m.HearJobs(self._jobs_wanted) if direct and self._jobs_wanted != self._jobs_heard else None

    def _prune_question(self) -> m.Question | None:
        # With the first check after taking the lead, not before: entering and taking over come first.
        if not self._checked:
            return None
        return self._leadership.prune_question(self._now.boot_sec)

    def _grow_question(self, me: m.Identity) -> m.Question | None:
        if self._now.boot_sec < max(self._grow_at_sec, self._grow_retry.not_before_sec) or not self._wanted():
            return None
        if self._quarantined_since_sec is not None:
            self._grow_at_sec = NEVER
            return None
        return m.Grow(me)

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

    def _beat_question(self, me: m.Identity) -> m.Question:
        has_its_share = self._target is not None and self._share == self._belief.pool
        settled = has_its_share and not pool_of(self._belief.all_giving)
        return m.Beat(
            me=me,
            applied_version=self._plan_version if settled else 0,
            known_plan_version=self._plan_version if self._target is not None else -1,
            check=self._leadership.is_mine and self._now.boot_sec >= self._check_at_sec,
        )

    # --- telling -----------------------------------------------------------------------------

    def _hand_over(self, tokens: TokenSet, reason: str | None) -> None:
        """Begin to hand over; without a reason no callback is called, as at exit.

        The right to lead goes apart: work on tasks must not wait for whatever leads.
        """
        self._give(pool_of(tokens), reason)
        self._give(tokens & RIGHT_TO_LEAD, None)

    def _give(self, tokens: TokenSet, reason: str | None) -> None:
        if tokens:
            giving = self._belief.give(tokens, self._now.boot_sec)
            self._publish()
            change = None if reason is None else self._change(tokens, TokenSet(), reason)
            self._out.append(m.Drain(giving.serial, tokens, change))

    def _change(self, removed: TokenSet, added: TokenSet, reason: str) -> m.Change:
        return m.Change(removed, added, max(self._plan_version, 0), reason)

    def _tell(self, removed: TokenSet, added: TokenSet, reason: str) -> None:
        self._told = self._told or bool(added) or reason == m.NOTHING_TO_OWN
        self._publish()
        self._out.append(m.Tell(self._change(removed, added, reason)))

    def _lose(self, tokens: TokenSet, reason: str, kind: FactKind) -> None:
        self._say(kind, f"{len(tokens)} tokens are believed in no more ({reason})", "warning")
        if tokens and self.phase is not Phase.LEAVING:
            self._tell(tokens, TokenSet(), reason)

    def _violation(self, text: str) -> None:
        self._say(FactKind.VIOLATION, f"an invariant of ownership is broken, all tokens are dropped: {text}", "error")
        self._lose(self._belief.drop(), "violation", FactKind.LEASE_RAN_OUT)
        self._reread = True

    def _say(self, kind: FactKind, text: str, level: str = "info") -> None:
        self._out.append(m.Report(Fact(kind, f"node {self.name!r}: {text}", level)))

    def _say_all(self, facts: list[Fact]) -> None:
        for fact in facts:
            self._say(fact.kind, fact.text, fact.level)

    def _set_quarantine(self, *, quarantined: bool) -> None:
        if not quarantined:
            self._quarantined_since_sec = None
        elif self._quarantined_since_sec is None:
            self._quarantined_since_sec = self._now.boot_sec
            text = "the rows come from another server or timeline: no token is granted until a whole lease has passed"
            self._say(FactKind.QUARANTINED, text, "warning")

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self.phase], f"{self.phase} -> {phase}"
        self.phase = phase

    def _finish(self, phase: Phase, error: JobsyncError | None) -> None:
        self._enter(phase)
        self._belief.forget()
        self._publish()
        self._out.append(m.Finish(error))

    @property
    def _has_first_tokens(self) -> bool:
        """Whether it has some of its share, or is known to have none: a tokenless node waits for no plan."""
        return not self.takes_tokens or (self._target is not None and bool(self._belief.pool or not self._share))

    def _publish(self) -> None:
        lease_sec = self._timing.session_lease_sec
        incarnation = self._me.incarnation if self._me is not None else 0
        standing = m.Standing(
            phase=self.phase,
            incarnation=incarnation,
            holding=self._belief.holding(incarnation, with_session=lease_sec is not None),
            connected=self._hello is not None,
            settled=self.phase is Phase.LIVE and self._has_first_tokens,
            plan_version=max(self._plan_version, 0),
            target=None if self._target is None else self._share,
            leader=self._leadership.leader,
            live=self._live,
            last_reply=self._last_reply,
            session_lease_ms=None if lease_sec is None else milliseconds(lease_sec),
            hears_jobs=self._bound and self._jobs_heard,
        )
        if standing != self._published:
            self._published = standing
            self._out.append(m.Publish(standing))
