"""Getting into the fleet: register, and where somebody stands in the way, watch him until he is alive or provably gone.

In the way stand the holder of the same name, or, when the settings that all must share differ, everybody. Whoever's
beats advance is alive, and the newcomer is refused. Whoever is silent or absent for longer than his lease is
fenced by the same two rules as any dead node, and the newcomer registers.
"""

from jobsync.core import messages as m
from jobsync.core.errors import ConfigMismatch, JobsyncError, NodeNameInUse
from jobsync.core.observer import Observer
from jobsync.core.settings import Settings, Timing

LOOK_EVERY_SEC = 0.1


class Entry:
    """One attempt to get in; a new one is made whenever the node has to register again."""

    def __init__(self, name: str, settings: Settings, *, takes_tokens: bool) -> None:
        self._name = name
        self._takes_tokens = takes_tokens
        self._settings = settings
        self._observer = Observer()
        self._blocked = False
        self._mismatch: m.Registration | None = None
        self._ask_at_sec = float("-inf")

    @property
    def waits_for_name(self) -> bool:
        """Whether the holder of the same name stands in the way."""
        return self._blocked and self._mismatch is None

    def next_due_sec(self) -> float:
        """Tell when there is something to ask."""
        return min(self._ask_at_sec, self._observer.next_due_sec())

    def question(self, now_sec: float, hello: m.Hello, timing: Timing) -> m.Question | None:
        """Give the next question of a newcomer, if any is due."""
        if not self._blocked:
            return self._register(hello, timing) if now_sec >= self._ask_at_sec else None
        for suspect in self._observer.suspects(now_sec):
            return suspect.fence(now_sec)
        if now_sec < self._ask_at_sec:
            return None
        self._ask_at_sec = now_sec + LOOK_EVERY_SEC
        return m.WatchForEntry(None if self._mismatch is not None else self._name)

    def _register(self, hello: m.Hello, timing: Timing) -> m.Register:
        settings = self._settings
        return m.Register(
            name=self._name,
            total_tokens=settings.total_tokens,
            hash_function=settings.hash_function,
            heartbeat_timeout_ms=milliseconds(settings.heartbeat_timeout_sec),
            row_lease_ms=milliseconds(timing.row_lease_sec),
            session_lease_ms=None if timing.session_lease_sec is None else milliseconds(timing.session_lease_sec),
            system_id=hello.system_id,
            timeline=hello.timeline,
            takes_tokens=self._takes_tokens,
        )

    def blocked(self, answer: m.Registration, now_sec: float) -> None:
        """Take in that somebody stands in the way."""
        self._blocked = True
        self._mismatch = answer if answer.outcome == "mismatch" else None
        self._ask_at_sec = now_sec

    def look(self, now_sec: float, sightings: m.Sightings) -> JobsyncError | None:
        """Take in a look at who stands in the way; give the error when somebody there is alive."""
        self._observer.look(now_sec, sightings.nodes)
        if self._observer.seen_alive():
            return self._refusal()
        if not sightings.nodes:
            self._blocked = False
            self._mismatch = None
            self._ask_at_sec = now_sec
        return None

    def fenced(self, who: m.Identity, now_sec: float) -> None:
        """Take in that a fence was tried: look again at once."""
        self._observer.forget(who)
        self._ask_at_sec = now_sec

    def refused(self, question: m.Question, now_sec: float) -> None:
        """Ask again a little later: a lock was held."""
        if isinstance(question, m.Fence):
            self._observer.postpone(question.who, now_sec)
        self._ask_at_sec = now_sec + LOOK_EVERY_SEC

    def session_lost(self, now_sec: float) -> None:
        """This node's session broke; the others' may have broken with it."""
        self._observer.own_session_broke(now_sec)

    def watch_anew(self, now_sec: float) -> None:
        """Forget what was seen: the rows are another server's, and beats may be missing in them."""
        self._observer = Observer()
        self._observer.own_session_broke(now_sec)

    def _refusal(self) -> JobsyncError:
        if self._mismatch is None:
            return NodeNameInUse(
                f"a live process already runs as node {self._name!r}: give every process a name of its own, or stop "
                "the other one"
            )
        return ConfigMismatch(
            f"node {self._name!r} asks for total_tokens={self._settings.total_tokens} and hash_function="
            f"{self._settings.hash_function!r}, but the live fleet agrees on total_tokens="
            f"{self._mismatch.total_tokens} and hash_function={self._mismatch.hash_function!r}: use "
            "the fleet's values, or stop all its nodes first"
        )


def milliseconds(seconds: float) -> int:
    """Give whole milliseconds, as the tables keep them."""
    return round(seconds * 1000)
