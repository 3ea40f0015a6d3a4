"""The command: choose mutants, try them, draw the table."""

import argparse
import contextlib
import gc
import io
import math
import os
import random
import re
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests import mutants as package
from tests.mutants.making import CORE, ROOT, Mutant, module_of, mutants_of
from tests.mutants.trying import Bench, Run, leave_out_the_unfit, say, verdicts_in

EXPLAINED = ROOT / "docs" / "proof" / "mutants.md"
TESTS = [
    "tests/core",
    "tests/logs/test_log_events.py::test_the_page_is_the_table",
    "-m",
    "not slow",
]
# Nothing that a failing test would say is read, so nothing is spent on it.
QUIET = [
    "-q",
    "-x",
    "-s",
    "-p",
    "no:randomly",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "--no-header",
    "--tb=no",
    "--assert=plain",
]


def all_mutants(only: str) -> dict[str, list[Mutant]]:
    """List the mutants of each module whose name an expression finds."""
    found = {module_of(path): list(mutants_of(path)) for path in sorted(CORE.rglob("*.py"))}
    return {module: mutants for module, mutants in found.items() if mutants and re.search(only, module)}


def table(modules: dict[str, list[Mutant]], verdicts: dict[str, str]) -> list[str]:
    """Draw what is known; a mutant that docs/proof/mutants.md explains is no miss of the tests."""
    explained = set(re.findall(r"^\* (`.+?` `.+?`: `.+?`)", EXPLAINED.read_text(), re.MULTILINE))
    rows = ["| module | mutants | tried | killed | of those tried | equivalent | score |", "|---|" + "---:|" * 6]
    total: Counter[str] = Counter()
    for module, mutants in modules.items():
        counted: Counter[str] = Counter(all=len(mutants))
        for mutant in mutants:
            verdict = verdicts.get(mutant.key, "untried")
            counted["known"] += mutant.key in verdicts
            counted["tried"] += verdict != "untried"
            counted["killed"] += verdict == "killed"
            counted["equivalent"] += verdict == "survived" and mutant.key in explained
        total += counted
        rows.append(_row(module, counted))
    return [*rows, _row("all", total)]


def _row(name: str, n: Counter[str]) -> str:
    judged = n["tried"] - n["equivalent"]
    score = f"{100 * n['killed'] / judged:.1f} %" if judged else "-"
    if judged and n["known"] < n["all"]:
        low, high = wilson(n["killed"], judged)
        score += f" ({100 * low:.0f} to {100 * high:.0f})"
    raw = f"{100 * n['killed'] / n['tried']:.1f} %" if n["tried"] else "-"
    return f"| {name} | {n['all']} | {n['tried']} | {n['killed']} | {raw} | {n['equivalent']} | {score} |"


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Give the 95 % confidence interval of a share (Wilson's)."""
    z, p = 1.96, hits / of
    middle = p + z * z / (2 * of)
    reach = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return (middle - reach) / (1 + z * z / of), (middle + reach) / (1 + z * z / of)


def chosen_from(modules: dict[str, list[Mutant]], given: argparse.Namespace) -> list[Mutant]:
    """Choose what to try."""
    known = verdicts_in(given.results)
    chance = random.Random(given.seed)
    chosen = []
    for mutants in modules.values():
        sample = chance.sample(mutants, min(given.sample, len(mutants))) if given.sample else mutants
        if given.survivors:
            sample = [m for m in mutants if known.get(m.key) == "survived"]
        elif given.resume:
            sample = [m for m in sample if m.key not in known]
        chosen.extend(sample)
    return chosen


def work(given: argparse.Namespace, run: Run) -> None:
    """Try what was chosen, within the time."""
    say(f"{len(run.cost_sec)} tests, {sum(run.cost_sec.values()):.0f} s of CPU")
    for test in leave_out_the_unfit(run):
        say(f"left out, since it fails in a child without any mutant: {test}")
    gc.freeze()  # A child that collects garbage would copy every page.
    began_sec = time.monotonic()
    bench = Bench(run, given.results, given.tests_sec)
    for mutant in chosen_from(all_mutants(given.only), given):
        if given.minutes and time.monotonic() - began_sec > given.minutes * 60:
            say("stopped: the time is over")
            break
        bench.begin(mutant)
        if len(bench.under_way) >= given.workers:
            bench.end_one()
    while bench.under_way:
        bench.end_one()
    say(f"{time.monotonic() - began_sec:.0f} s")


def main() -> None:
    """Make, try, count."""
    parser = argparse.ArgumentParser(description=(package.__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each module, by chance; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="modules whose name this expression finds")
    parser.add_argument("--minutes", type=float, default=0, help="stop after this; 0: never")
    parser.add_argument("--tests-sec", type=float, default=20.0, help="CPU of the tests run on one mutant, at most")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="what pytest is given to run")
    parser.add_argument("--workers", type=int, default=1, help="mutants at a time")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutants.jsonl", help="where verdicts go")
    parser.add_argument("--resume", action="store_true", help="leave out what has a verdict in the results")
    parser.add_argument("--survivors", action="store_true", help="try again what survived in the results")
    parser.add_argument("--table", action="store_true", help="try nothing: draw the table of the results")
    given = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "src"))  # Of two checkouts, the one that is mutated is the one that is run.
    given.results = given.results.absolute()
    given.results.parent.mkdir(exist_ok=True)
    if not (given.resume or given.survivors or given.table):
        given.results.unlink(missing_ok=True)
    if not given.table:
        say("running the tests of the core, once ...")
        run = Run(partial(work, given))
        run.note_imports()
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main([*QUIET, *given.tests], plugins=[run])
        if run.failed:
            sys.exit("the tests fail without any mutant: mend them first")
    say("\n".join(["", *table(all_mutants(given.only), verdicts_in(given.results))]))


if __name__ == "__main__":
    main()
