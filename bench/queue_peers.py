"""The same figures of other queues on PostgreSQL, in the same run: what ours stand beside.

Each peer lives in an environment of its own (`build/peers`, made here with pip), in a database of its own on the same
server, and works as its documentation advises for speed. The rate counts from the first call of a handler until its
tables say that nothing is left.
"""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread
from bench.queue_crew import ROOT, Speaker, boot_sec

HOME = ROOT / "build" / "peers"
PEERS_DIR = Path(__file__).parent / "peers"
PACKAGES = ["pgqueuer[asyncpg]==1.6.0", "procrastinate==3.10.0", "chancy==0.26.0", "uvloop"]
LIMIT_SEC = 120.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One other queue: how many jobs it is given, and how its tables say that nothing is left."""

    name: str
    jobs: int
    left: str


PEERS = (
    Peer("pgqueuer", 20_000, "select exists (select from pgqueuer)"),
    Peer("chancy", 5_000, "select exists (select from chancy_jobs where state in ('pending', 'running', 'retrying'))"),
    Peer("procrastinate", 1_000, "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))"),
)


def _python() -> str:
    """Make the peers' environment, once."""
    python = HOME / "bin" / "python"
    if not (HOME / ".ready").exists():
        print("installing the peers ...", file=sys.stderr, flush=True)
        venv.create(HOME, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        subprocess.run(command, check=True)
        (HOME / ".ready").touch()
    return str(python)


class Stage:
    """One peer in a fresh database."""

    def __init__(self, context: Context, peer: Peer) -> None:
        self.peer = peer
        self._command = [_python(), f"{peer.name}_peer.py"]
        name = sql.Identifier(f"bench_{peer.name}")
        with psycopg.connect(context.dsn, autocommit=True) as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(name))
            conn.execute(sql.SQL("create database {}").format(name))
        given = conninfo_to_dict(context.dsn)
        self.dsn = make_conninfo(context.dsn, dbname=f"bench_{peer.name}")
        # The peers' drivers differ in what they read: all of them read this form.
        self.url = f"postgresql://{given['user']}@/bench_{peer.name}?host={given['host']}&port={given['port']}"
        self.tell("setup")
        self.conn = psycopg.connect(self.dsn, autocommit=True)

    def tell(self, verb: str, *count: int) -> str:
        """Run one verb to its end."""
        command = [*self._command, verb, self.url, *map(str, count)]
        return subprocess.run(
            command, cwd=PEERS_DIR, check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT_SEC
        ).stdout

    def sec(self, verb: str, count: int) -> float:
        """Give the seconds that a verb tells."""
        return float(self.tell(verb, count).split(":")[1].strip(" }\n"))

    def work(self, count: int) -> list[Speaker]:
        """Start workers."""
        return [Speaker([*self._command, "work", self.url], cwd=PEERS_DIR) for _ in range(count)]

    def drained(self, workers: int) -> float:
        """Drain what waits; jobs a second."""
        started = self.work(workers)
        try:
            until_sec = boot_sec() + LIMIT_SEC
            while self._some_left() and boot_sec() < until_sec:
                pass
            end_sec = boot_sec()
            firsts = [said["first"] for worker in started for said in worker.all_heard("first")]
        finally:
            for worker in started:
                worker.kill()
        rate: float = self.peer.jobs / (end_sec - min(firsts))
        return rate

    def _some_left(self) -> bool:
        # A look that is too frequent would slow what it looks at.
        row = self.conn.execute("select pg_sleep(0.02)").fetchone()
        row = self.conn.execute(self.peer.left.encode()).fetchone()
        assert row is not None
        return bool(row[0])


def peers(context: Context) -> list[Figure]:
    """Drain, enqueue and pick up with each peer."""
    figures = []
    for peer in PEERS:
        figures += _of(context, peer)
    return figures


def _of(context: Context, peer: Peer) -> list[Figure]:
    repeats = context.repeats(3, 1)
    command = command_for("peers")
    stage = Stage(context, peer)
    bulk, figures = [], []
    for workers in (1, 2):
        rates = []
        for _ in range(repeats):
            bulk.append(peer.jobs / stage.sec("enqueue", peer.jobs))
            rates.append(stage.drained(workers))
        figures.append(Figure(f"{peer.name}: drain, {workers} worker{'s' if workers > 1 else ''}", "-",
                              spread(rates, "jobs/s", digits=0), repeats, None, command,
                              {"jobs_per_sec": rounded(rates, 0)}))  # fmt: skip
    singles = [300 / stage.sec("single", 300) for _ in range(repeats)]
    figures.append(
        Figure(f"{peer.name}: bulk enqueue", "-", spread(bulk, "jobs/s", digits=0), len(bulk), None, command)
    )
    figures.append(Figure(f"{peer.name}: single enqueue", "-", spread(singles, "jobs/s", digits=0), repeats, None,
                          command))  # fmt: skip
    figures.append(_pickup(context, stage))
    return figures


def _pickup(context: Context, stage: Stage) -> Figure:
    count = context.repeats(300, 50)
    (worker,) = stage.work(1)
    try:
        while stage._some_left():
            pass
        stage.tell("pickup", 1)
        worker.hear("pickup_ms", 60)
        stage.tell("pickup", count)
        delays = [worker.hear("pickup_ms", 60)["pickup_ms"] for _ in range(count)]
    finally:
        worker.kill()
    cuts = quantiles(delays, n=100)
    return Figure(f"{stage.peer.name}: pick-up, p50 / p99", "-", f"{cuts[49]:.2f} / {cuts[98]:.2f} ms", count, None,
                  command_for("peers"))  # fmt: skip
