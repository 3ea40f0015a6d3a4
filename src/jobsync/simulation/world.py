"""A world: processes, their network, one server, and the judges; this file puts them together and starts processes."""

from collections.abc import Callable
from functools import partial
from random import Random

from jobsync.core import messages as m
from jobsync.core.member import Member
from jobsync.core.settings import Settings
from jobsync.postgres.virtual_server import VirtualServer
from jobsync.simulation.agenda import Agenda
from jobsync.simulation.checkers import Checkers
from jobsync.simulation.network import Network
from jobsync.simulation.process import Process, Stepping
from jobsync.simulation.server import SimulatedServer
from jobsync.simulation.wording import word_answer, word_event

MakeMember = Callable[[str, Settings, bool], Stepping]


def real_member(name: str, settings: Settings, takes_tokens: bool) -> Stepping:  # noqa: FBT001 - one of three facts
    """Make the member that the product runs."""
    return Member(name, settings, takes_tokens=takes_tokens)


class World:
    """Everything there is. `make_member` is changed by tests that break a rule."""

    def __init__(
        self,
        virtual: VirtualServer,
        seed: int,
        *,
        direct: bool = True,
        traced: bool = False,
        make_member: MakeMember = real_member,
        checks: Checkers | None = None,
    ) -> None:
        virtual.reset(seed)
        self.random = Random(seed)
        self.agenda = Agenda(traced=traced)
        self.checks = Checkers() if checks is None else checks
        self.judged = checks is None
        self.server = SimulatedServer(virtual, self.agenda, self.checks, self.random)
        self.network = Network(self, direct=direct)
        self.processes: list[Process] = []
        self.facts: dict[m.FactKind, int] = {}
        self.calm = True
        self.node_sec = 0.0
        self._make_member = make_member
        self._born = 0

    # --- processes -----------------------------------------------------------------------------

    def start(self, name: str, settings: Settings, *, takes_tokens: bool = True) -> Process:
        """Start a process."""
        self._born += 1
        process = Process(self, self._born, name, self._make_member(name, settings, takes_tokens))
        self.checks.born(process.number, name, settings.total_tokens)
        self.processes.append(process)
        self.agenda.note(process.label, "is started" if takes_tokens else "is started, tokenless")
        process.deliver(m.Started)
        return process

    def end(self, process: Process, *, session_lingers_sec: float = 0.002) -> None:
        """End a process at once, whatever it was doing; the server may see it late."""
        if not process.alive:
            return
        process.alive = False
        self.node_sec += self.agenda.now_sec - process.born_sec
        self.agenda.note(process.label, f"is gone: {process.error}" if process.error else "is gone")
        self.checks.died(process.number)
        self.processes.remove(process)
        for session in (process.session, process.stale):
            if session is not None:
                self.agenda.after(session_lingers_sec, partial(self.server.hang_up, session))

    # --- the application's side --------------------------------------------------------------------

    def callback_sec(self) -> float:
        """Draw how long a callback takes."""
        return 0.001 if self.calm or self.random.random() < 0.8 else self.random.uniform(0, 1.0)

    def body_sec(self) -> float:
        """Draw how long a task's body holds on to its token."""
        return 0.004 if self.calm or self.random.random() < 0.8 else self.random.uniform(0, 1.0)

    # --- the trace ---------------------------------------------------------------------------------

    def told(self, label: str, event: m.Event) -> None:
        """Note what happens to a process."""
        if self.agenda.trace is not None:
            self.agenda.note(label, word_event(event))

    def saw(self, label: str, question: m.Question, answer: m.Answer | None) -> None:
        """Note what the database did."""
        if self.agenda.trace is not None:
            self.agenda.note(label, f"-> {word_answer(question, answer)}")

    def said(self, process: Process, fact: m.Fact) -> None:
        """Take in a fact that a node reports."""
        self.facts[fact.kind] = self.facts.get(fact.kind, 0) + 1
        if self.agenda.trace is not None:
            self.agenda.note(process.label, f"says {fact.kind.value}: {fact.text}")
