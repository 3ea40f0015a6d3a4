"""What a member knows, and how it tells what changed: the ground on which the parts of `Member` stand.

Everything a member remembers is declared here, once. The methods here decide nothing: they put what was decided among
the effects of the step, in order, and keep the one value that readers see up to date.
"""

from dataclasses import replace

from jobsync.core import messages as m
from jobsync.core.belief import Belief
from jobsync.core.departure import Departure
from jobsync.core.entry import Entry, milliseconds
from jobsync.core.errors import JobsyncError
from jobsync.core.leadership import Leadership
from jobsync.core.leases import Instant
from jobsync.core.messages import Fact, FactKind, Phase
from jobsync.core.observer import Observer
from jobsync.core.pool import RIGHT_TO_LEAD, pool_of
from jobsync.core.retry import Retry
from jobsync.core.settings import Settings, Timing
from jobsync.core.tokens import TokenSet

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.NEW: frozenset({Phase.LIVE, Phase.LEFT, Phase.FAILED}),
    Phase.LIVE: frozenset({Phase.NEW, Phase.LEAVING}),
    Phase.LEAVING: frozenset({Phase.LEFT}),
    Phase.LEFT: frozenset(),
    Phase.FAILED: frozenset(),
}

NEVER = float("inf")


class MemberState:
    """The memory of one node, and its voice."""

    _wants_since_sec: float | None = None  # Since when tokens are wanted that are not held.
    _grow_asked_sec = _beat_asked_sec = float(
        "-inf"
    )  # When these were last asked: a burst of hints waits from there on.

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
        self._rows_of: tuple[str, str] | None = None  # whose rows are watched: the server of the newest session
        self._servers_met = 0
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
        self._jobs_wanted = self._jobs_heard = False

    @property
    def _over(self) -> bool:
        return not TRANSITIONS[self.phase]

    def _server_to_name(self) -> m.Server | None:
        """Name the server that renews a lease or grants, where a pooler may exchange it under a session that stands."""
        if self._hello is None or self._hello.direct:
            return None
        return m.Server(self._hello.system_id, self._hello.timeline)

    # --- telling -----------------------------------------------------------------------------------

    def _say(
        self,
        kind: FactKind,
        text: str,
        level: str = "info",
        *,
        count: int = 1,
        took_sec: float | None = None,
        **details: str | int,
    ) -> None:
        self._say_all([Fact(kind, text, level, count, took_sec, tuple(details.items()))])

    def _say_all(self, facts: list[Fact]) -> None:
        for fact in facts:
            self._out.append(m.Report(replace(fact, text=f"node {self.name!r}: {fact.text}")))

    def _tell(self, removed: TokenSet, added: TokenSet, reason: str) -> None:
        self._told = self._told or bool(added) or reason == m.NOTHING_TO_OWN
        self._publish()
        self._out.append(m.Tell(self._change(removed, added, reason)))

    def _change(self, removed: TokenSet, added: TokenSet, reason: str) -> m.Change:
        return m.Change(removed, added, max(self._plan_version, 0), reason)

    def _lose(self, tokens: TokenSet, reason: str, kind: FactKind) -> None:
        text = f"{len(tokens)} tokens are believed in no more ({reason})"
        self._say(kind, text, "warning", count=len(tokens), reason=reason)
        if tokens and self.phase is not Phase.LEAVING:
            self._tell(tokens, TokenSet(), reason)

    def _violation(self, text: str) -> None:
        self._say(FactKind.VIOLATION, f"an invariant of ownership is broken, all tokens are dropped: {text}", "error")
        self._lose(self._belief.drop(), "violation", FactKind.LEASE_RAN_OUT)
        self._reread = True

    # --- handing over ------------------------------------------------------------------------------

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

    # --- phases ------------------------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self.phase], f"{self.phase} -> {phase}"
        self.phase = phase

    def _finish(self, phase: Phase, error: JobsyncError | None) -> None:
        self._enter(phase)
        self._belief.forget()
        self._publish()
        self._out.append(m.Finish(error))

    def _set_quarantine(self, *, quarantined: bool) -> None:
        if not quarantined:
            self._quarantined_since_sec = None
        elif self._quarantined_since_sec is None:
            self._quarantined_since_sec = self._now.boot_sec
            text = "the rows come from another server or timeline: no token is granted until a whole lease has passed"
            self._say(FactKind.QUARANTINED, text, "warning")

    # --- what readers see --------------------------------------------------------------------------

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
            servers_met=self._servers_met,
        )
        if standing != self._published:
            self._published = standing
            self._out.append(m.Publish(standing))
