"""What the examples' drivers share: a schema of their own, processes that can be killed, and a verdict.

An example is its worker.py: that is what a user writes. The play.py beside it starts workers, kills them and judges
what they did; it stands on this module, so that neither has to carry it.

The database is the one that SYNC_DSN names, by default the embedded server. In it every play makes a schema of its own
and drops it at the end, so that the workers can use plain table names and nothing of yours is touched.
"""

import os
import runpy
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobsync.postgres.embedded import acquire

LOOK_SEC = 0.05
LIMIT_SEC = 30.0
LEAVE_SEC = 10.0


class Stage:
    """A database, processes and a clock for one play; leaving it ends the processes and drops the schema."""

    def __init__(self, name: str, tables: str) -> None:
        self._schema = f"example_{name}_{secrets.token_hex(3)}"
        self._tables = tables
        self._exits = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._killed: set[str] = set()
        self._start_sec = time.perf_counter()
        self.dsn = ""

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        with ExitStack() as exits:
            self.directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="jobsync-example-")))
            given = os.environ.get("SYNC_DSN") or "embedded"
            where = exits.enter_context(acquire()).dsn if given == "embedded" else given
            options = f"{conninfo_to_dict(where).get('options') or ''} -c search_path={self._schema}"
            self.dsn = make_conninfo(where, options=options)
            self._take_over_environment()
            self._db = exits.enter_context(psycopg.connect(self.dsn, autocommit=True))
            self._db.execute(sql.SQL("create schema {}").format(sql.Identifier(self._schema)))
            exits.callback(self._drop)
            exits.callback(self._end_all)
            self._db.execute(self._tables.encode())
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _take_over_environment(self) -> None:
        """Let the workers find the schema; the shell's other settings are meant for a fleet of the user's own."""
        for name in [name for name in os.environ if name.startswith("SYNC_")]:
            del os.environ[name]
        os.environ["SYNC_DSN"] = self.dsn

    def _drop(self) -> None:
        self._db.execute("set client_min_messages = error")
        self._db.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(self._schema)))

    # --- the database --------------------------------------------------------------------------

    def query(self, text: str, *args: object) -> list[tuple[Any, ...]]:
        """Run one statement and give its rows, if it has any."""
        cursor = self._db.execute(text.encode(), args or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, text: str, *args: object) -> Any:
        """Run one statement and give its only value."""
        return self.query(text, *args)[0][0]

    # --- processes -----------------------------------------------------------------------------

    def start(self, name: str, script: Path, *args: object) -> None:
        """Start a script in a process of its own; what it prints goes to a file."""
        with self._log(name).open("ab") as log:
            # The pipe is a leash: when this process dies, by whatever death, the script's process ends as well.
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own interpreter and scripts
                [sys.executable, __file__, str(script), *map(str, args)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._killed.discard(name)

    def kill(self, name: str) -> None:
        """End a process with SIGKILL: it gets no chance to say good-bye."""
        self._killed.add(name)
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self, name: str) -> int:
        """Ask a process to end with SIGTERM, and give its exit status."""
        process = self._processes[name]
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(LEAVE_SEC)
        self.kill(name)
        return -signal.SIGKILL

    def has_ended(self, name: str) -> bool:
        """Tell whether a process has ended."""
        return self._processes[name].poll() is not None

    def output(self, name: str) -> str:
        """Give what a process has printed so far."""
        return self._log(name).read_text(errors="replace")

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _end_all(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for name in self._processes:
            self.stop(name)
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()

    # --- telling and waiting -------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Tell what happens, and when."""
        print(f"{time.perf_counter() - self._start_sec:5.1f} s  {text}", flush=True)

    def wait_until(self, condition: Callable[[], object], what: str) -> float:
        """Wait until something is so, and give how long it took; end the play when it never is, or a process fails."""
        began_sec = time.perf_counter()
        while not condition():
            for name, process in self._processes.items():
                if name not in self._killed and process.poll() not in {None, 0}:
                    raise SystemExit(f"{name} ended with {process.returncode}:\n{self.output(name)[-2000:]}")
            if time.perf_counter() - began_sec > LIMIT_SEC:
                raise SystemExit(f"waited {LIMIT_SEC:.0f} s in vain for this: {what}")
            time.sleep(LOOK_SEC)
        return time.perf_counter() - began_sec

    def verdict(self, checks: "Iterable[Check]") -> int:
        """Print the verdict, and give the exit status; where it is broken, print what the processes said, too."""
        status = verdict(checks)
        for name in self._processes if status else ():
            print(f"\n{name} said:\n{self.output(name)[-2000:]}", flush=True)
        return status


# --- the verdict ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, whether it held, and the figures."""

    promise: str
    holds: bool
    figures: str


def verdict(checks: Iterable[Check]) -> int:
    """Print the checks and the word; give the exit status: 0 only if every check holds."""
    listed = list(checks)
    width = max(len(check.promise) for check in listed)
    print()
    for check in listed:
        print(f"{'ok ' if check.holds else 'BAD'}  {check.promise:<{width}}  {check.figures}")
    holds = all(check.holds for check in listed)
    print(f"\nThe verdict {'holds' if holds else 'is broken'}.", flush=True)
    return 0 if holds else 1


# --- in the process of a script ------------------------------------------------------------------


def run_on_leash(script: str, args: list[str]) -> None:
    """Run a script as its own interpreter would, and end as by SIGTERM when whoever started it is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    sys.argv = [script, *args]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    run_on_leash(sys.argv[1], sys.argv[2:])
