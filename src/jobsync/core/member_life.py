"""A member's own life: its session, its registration, its leases, and their ends.

A lease counts from before the send. A new session's timing counts only once the database has bound the session; a node
that the database does not know any more believes nothing; after a fail-over nothing is revived.
"""

from jobsync.core import messages as m
from jobsync.core.entry import Entry, milliseconds
from jobsync.core.errors import JobsyncError
from jobsync.core.leases import Instant, Lease
from jobsync.core.member_state import NEVER, MemberState
from jobsync.core.messages import FactKind, Phase
from jobsync.core.observer import Observer
from jobsync.core.settings import Timing, session_lease_for


class Life(MemberState):
    """Entering, staying and being put out."""

    def _let_run_out(self) -> None:
        row = self._belief.row
        if row is not None and self._now.boot_sec >= row.boot_until_sec:
            self._belief.row = None
            self._reread = True
            self._lose(self._belief.drop(), "lease ran out", FactKind.LEASE_RAN_OUT)

    # --- the session -------------------------------------------------------------------------------

    def _on_connected(self, hello: m.Hello) -> None:
        self._connecting = False
        self._bound = self._jobs_heard = False
        self._hello = hello
        self._note_rows_of(hello)
        self._connect_retry.succeeded()
        lease_sec = session_lease_for(self.settings, hello.round_trip_sec) if hello.direct else None
        if lease_sec != self._lease_told_sec:
            self._lease_told_sec = lease_sec
            self._say_session_lease(hello, lease_sec)
        self._timing_when_bound = Timing.of(self.settings, session_lease_sec=lease_sec)
        if not hello.durable:
            text = "the server runs with fsync off: a crash of its machine may lose grants, and with them exclusivity"
            self._say(FactKind.NOT_DURABLE, text, "warning")

    def _note_rows_of(self, hello: m.Hello) -> None:
        """Begin to watch anew on another server: beats that were committed on the old one may be missing there.

        A silence that was seen on the old server proves nothing: its end may be among what is lost.
        """
        rows_of = (hello.system_id, hello.timeline)
        if self._rows_of not in (None, rows_of):
            self._observer = Observer()
            self._observer.own_session_broke(self._now.boot_sec)
            self._entry.watch_anew(self._now.boot_sec)
        self._rows_of = rows_of

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

    # --- the registration --------------------------------------------------------------------------

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
        number = answer.incarnation
        self._say(FactKind.REGISTERED, f"registered as incarnation {number}", incarnation=number)

    def _on_rebound(self, answer: m.Rebound, sent: Instant) -> None:
        assert self._me is not None
        if self._note_server(answer.generation):
            self._meet_stranger()
        self._reread = True
        self._set_quarantine(quarantined=answer.quarantined)
        self._bind(m.Identity(self.name, self._me.incarnation, answer.bind), sent)
        self._say(FactKind.REBOUND, f"session bound anew as {answer.bind}")

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

    def _note_server(self, generation: int | None) -> bool:
        """Remember whose rows these are; True when they are another server's or timeline's than before."""
        assert self._hello is not None
        server = (self._hello.system_id, self._hello.timeline)
        # The generation alone would not do: it stands in rows that a fail-over may roll back.
        changed = (self._generation, self._server) != (generation, server)
        self._generation, self._server = generation, server
        self._servers_met += changed
        if changed:
            self._quarantined_since_sec = None  # A wait that began on another server proves nothing about this one.
        return changed

    def _meet_stranger(self) -> None:
        """Trust nothing of a server that may lack commits, until a whole lease has passed and the rows are read."""
        self._stranger = True
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

    def _on_leave_asked(self) -> None:
        self._departure.ask(self._now.boot_sec)
        if self.phase is Phase.LIVE:
            self._enter(Phase.LEAVING)
        elif self.phase is Phase.NEW and not isinstance(self._in_flight, m.Register):
            self._finish(Phase.LEFT, None)

    # --- leases ------------------------------------------------------------------------------------

    def _renew_row(self, sent: Instant) -> None:
        # Until the rows of another server are read, the belief lives on the lease it had, and not a moment longer.
        if not self._stranger:
            self._belief.row = Lease(sent, self._timing.row_lease_sec)

    def _session_lease(self, sent: Instant) -> Lease | None:
        lease_sec = self._timing.session_lease_sec
        return None if lease_sec is None else Lease(sent, lease_sec)

    def _ping_after(self, sent: Instant) -> float:
        return NEVER if self._timing.session_lease_sec is None else sent.boot_sec + self._timing.ping_every_sec
