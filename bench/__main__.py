"""Measure the figures: `python -m bench [NAME ...] [--json FILE] [--docs FILE] [--quick]`."""

import argparse
import json
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from bench import aged, answers, command, deals, idle, imports, memory, moves, queue, queue_peers, records, steering
from bench.context import DSN_VARIABLE, Context, open_context
from bench.figures import Figure, command_for, markdown, table

BENCHES: dict[str, Callable[[Context], list[Figure]]] = {
    "deal": deals.deal,
    "join": moves.join,
    "kill": moves.kill,
    "kill-both": moves.kill_both,
    "stop": moves.stop,
    "idle": idle.idle,
    "fifty": idle.fifty,
    "memory": memory.memory,
    "claim": answers.claim,
    "ids-for-token": answers.ids_for_token,
    "aged": aged.aged,
    "overlap": moves.overlap,
    "tasks": records.tasks,
    "add-task": records.add_task,
    "locks": records.locks,
    "transaction": records.transaction,
    "prune": records.prune,
    "status": command.status,
    "imports": imports.imports,
    "steering": steering.steering,
    "drain": queue.drain,
    "peers": queue_peers.peers,
    "enqueue": queue.enqueue,
    "pickup": queue.pickup,
    "crash": queue.crash,
    "half-way": queue.half_way,
    "wal": queue.wal,
    "crowded": queue.crowded,
    "slow-one": queue.slow_one,
    "idle-worker": queue.idle_worker,
}
_BETWEEN_MARKS = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)


def machine(context: Context) -> dict[str, Any]:
    """Describe the machine, naming neither it nor any place on it."""
    with psycopg.connect(context.dsn) as conn:
        row = conn.execute("select current_setting('server_version'), current_setting('fsync'), "
                           "current_setting('synchronous_commit')").fetchone()  # fmt: skip
    assert row is not None
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "processor": model.group(1) if model else platform.machine(),
        "memory_gb": round(memory_bytes / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
        "postgresql": row[0],
        "fsync": row[1],
        "synchronous_commit": row[2],
        "quick": context.quick,
    }


def measure(context: Context, name: str) -> tuple[list[Figure], dict[str, Any]]:
    """Run one bench; a bench that fails is a line of the table, not the end of it."""
    load_before = os.getloadavg()[0]
    began = time.perf_counter()
    try:
        figures = BENCHES[name](context)
    except Exception as error:
        traceback.print_exc()
        figures = [Figure(name, "-", f"not measured: {error}", 0, False, command_for(name))]
    took = {
        "seconds": round(time.perf_counter() - began, 1),
        "load": [round(load_before, 2), round(os.getloadavg()[0], 2)],
    }
    return figures, took


def main(argv: list[str]) -> int:
    """Measure what is asked for; status 1 if a figure falls short."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHES)}; by default all")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the JSON goes")
    parser.add_argument("--docs", type=Path, help="a page between whose marks the table is written")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, shorter idling")
    options = parser.parse_args(argv)
    names = options.names or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"no bench is called {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
    figures: list[Figure] = []
    took: dict[str, Any] = {}
    with open_context(os.environ.get(DSN_VARIABLE), quick=options.quick) as context:
        about = machine(context)
        for name in names:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            measured, took[name] = measure(context, name)
            print(table(measured), "\n", file=sys.stderr, flush=True)
            figures += measured
    report(figures, about, took, options.json, options.docs)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def report(
    figures: list[Figure], about: dict[str, Any], took: dict[str, Any], json_path: Path, docs: Path | None
) -> None:
    """Print the table and write the JSON, and the page if one is named."""
    loads = ", ".join(f"{name} {each['load'][0]:g} to {each['load'][1]:g}" for name, each in took.items())
    said = ", ".join(f"{key} {value}" for key, value in about.items())
    print(table(figures))
    print(f"\nmachine: {said}\nload average (1 minute), before and after: {loads}")
    json_path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "took": took, "figures": [figure.as_json() for figure in figures]}
    json_path.write_text(json.dumps(content, indent=1) + "\n")
    if docs is not None:
        text = f"{markdown(figures)}\n\nMachine: {said}.\nLoad average (1 minute), before and after each: {loads}.\n"
        docs.write_text(_BETWEEN_MARKS.sub(lambda found: found[1] + text + found[2], docs.read_text()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
