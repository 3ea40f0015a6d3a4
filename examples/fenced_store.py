"""A store outside the database that refuses a writer who has lost the task: `python examples/fenced_store.py`.

`job.transaction()` needs no such thing: there PostgreSQL refuses. Work whose effect lies elsewhere (a file, an object
store, a device) takes the number that comes with a claim, and shows it with every write. Each later owner of a
task has a higher one, so a store that keeps the highest it has seen can tell who comes too late.

Two processes play it out. ann claims a task and is paused in the middle (SIGSTOP, as a long garbage collection, a
swapping machine or a sleeping laptop would do it). bob takes the task over and writes. Then ann wakes, still in
the middle of her work, and writes as well: the store refuses her.

It runs on the embedded PostgreSQL; SYNC_DSN and SYNC_SQL_APPNAME name another database and another prefix.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from jobsync import CoordinationConfig, Job

TASK = "invoice-7"


class StaleEpoch(Exception):  # noqa: N818 - named for what happened
    """Report that somebody with a higher epoch has written the key: the writer has lost the task."""


class FencedStore:
    """Values by key, in a file, each with the epoch of its writer: a lower one is refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connected()) as db, db:
            db.execute(
                "create table if not exists entry (key text primary key, value text not null, epoch integer not null)"
            )

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)

    def write(self, key: str, value: str, epoch: int) -> None:
        """Store a value; raise StaleEpoch, and store nothing, where a higher epoch has written the key.

        To look and to write is one statement: between two of them another writer would fit.
        """
        with closing(self._connected()) as db, db:
            written = db.execute(
                "insert into entry (key, value, epoch) values (?, ?, ?) on conflict (key) do update "
                "set value = excluded.value, epoch = excluded.epoch where excluded.epoch >= entry.epoch",
                (key, value, epoch),
            )
            if not written.rowcount:
                raise StaleEpoch(f"{key!r} was written under a higher epoch than {epoch}")

    def read(self, key: str) -> tuple[str, int] | None:
        """Give the value and its epoch, if there is one."""
        with closing(self._connected()) as db:
            row: tuple[str, int] | None = db.execute("select value, epoch from entry where key = ?", (key,)).fetchone()
            return row


# --- one node ------------------------------------------------------------------------------------


def work(name: str, path: Path) -> None:
    """Be a node: claim the task as soon as it is this node's, say the epoch, and write when told."""
    config = CoordinationConfig(
        dsn=os.environ.get("SYNC_DSN", "embedded"),
        appname=os.environ.get("SYNC_SQL_APPNAME", "fenced_store_"),
        heartbeat_interval_sec=0.5,
        heartbeat_timeout_sec=2,
        dead_node_check_interval_sec=2,
    )
    store = FencedStore(path)
    with Job(name, coordination_config=config) as job:
        print("ready", flush=True)
        sys.stdin.readline()
        while not job.can_claim_task(TASK):
            job.wait(0.02)
        claim = job.claim(TASK)
        print(claim.epoch, flush=True)
        # Here the work is done: it takes its time, and nobody can say how much.
        sys.stdin.readline()
        try:
            store.write(TASK, f"paid, says {name}", claim.epoch)
            print("written", flush=True)
        except StaleEpoch as error:
            print(f"refused: {error}", flush=True)
        sys.stdin.readline()


# --- the play ------------------------------------------------------------------------------------


class Node:
    """A node in a process of its own, led by lines on its standard input."""

    def __init__(self, name: str, path: Path) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - this very file
            [sys.executable, __file__, name, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.hear()

    def hear(self) -> str:
        """Give the next line that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a node has ended before its time: see its error above")
        return line.strip()

    def go_on(self) -> str:
        """Let it take its next step, and give what it says then."""
        self.let_go()
        return self.hear()

    def let_go(self) -> None:
        """Let it take its next step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Let it leave the fleet, also where the play was broken off."""
        self.process.send_signal(signal.SIGCONT)
        self.process.communicate()


def play(path: Path) -> bool:
    """Play it out; True if the store kept what the later owner wrote."""
    ann = Node("ann", path)
    nodes = [ann]
    try:
        first = int(ann.go_on())
        print(f"ann claims {TASK} under epoch {first}, and is paused in the middle of her work")
        ann.process.send_signal(signal.SIGSTOP)
        bob = Node("bob", path)
        nodes.append(bob)
        second = int(bob.go_on())
        print(f"bob takes {TASK} over once ann's lease has run out, under epoch {second}")
        print(f"bob writes: {bob.go_on()}")
        ann.process.send_signal(signal.SIGCONT)
        late = ann.go_on()
        print(f"ann wakes and writes: {late}")
    finally:
        for node in nodes:
            node.end()
    kept = FencedStore(path).read(TASK)
    print(f"the store holds: {kept}")
    return first < second and late.startswith("refused") and kept == ("paid, says bob", second)


def main(arguments: list[str]) -> int:
    """Play it out, or be one of its nodes."""
    if arguments:
        work(arguments[0], Path(arguments[1]))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        went_well = play(Path(directory) / "store.sqlite")
    print("as it should be" if went_well else "NOT as it should be")
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
