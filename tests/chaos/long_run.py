"""`make chaos MINUTES=30`: rounds of bad weather until the time is over, and a table of what each kind of fault cost.

    python -m tests.chaos.long_run MINUTES [SEED]

Seeds count up from the one given, or from one drawn; a seed repeats its round. The table is written to
`build/chaos.md`, all the while. The exit code is 1 where a token was owned twice, a fleet did not become whole again,
or a recovery took longer than its bound allows.
"""

import random
import shutil
import sys
from pathlib import Path
from typing import Any

from jobsync.runtime.clock import boot_sec
from tests.chaos.rounds import Ground, Report, play
from tests.network import why_not
from tests.server_clock import why_no_clock
from tests.servers import clear_old_runs, lock_run, new_dir, servers_base

STEPS = 20
BUSY_SEC = 3.0
BUILD = Path(__file__).parents[2] / "build"


def summary(report: Report, minutes: float, complaint: str) -> str:
    """Tell what was played and what came of it."""
    rounds = f"Seeds {report.seeds[0]} to {report.seeds[-1]}: {len(report.seeds)} rounds in {minutes:.0f} minutes"
    played = f"{report.faults} faults, {report.samples:,} samples of 12 answers"
    found = f"{len(report.overlaps)} overlaps, {len(report.late(BUSY_SEC))} recoveries beyond their bound"
    lines = [
        f"{rounds}, {played}, {found}.",
        "",
        report.table(),
        *([] if not complaint else ["", complaint]),
        *(f"* not whole again: {failure[:4000]}" for failure in report.failures),
        *(f"* owned twice: {found}" for found in report.overlaps[:20]),
        *(f"* late: {found}" for found in report.late(BUSY_SEC)[:20]),
    ]
    return "\n".join(lines) + "\n"


def main(minutes: float, seed: int) -> int:
    """Play until the time is over; give the exit code."""
    reason = why_not()
    missing = {"DROP and RST": reason, "steps of the database's clock": why_no_clock()}
    complaint = "; ".join(f"without {what}: {why}" for what, why in missing.items() if why is not None)
    how: dict[str, Any] = {"steps": STEPS, "long_pauses": minutes >= 10}
    clear_old_runs()
    home = new_dir(servers_base(), "run")
    lock_run(home)
    began_sec = boot_sec()
    report = Report()
    BUILD.mkdir(exist_ok=True)
    with Ground(home, networked=reason is None) as ground:
        while boot_sec() - began_sec < minutes * 60:
            directory = new_dir(home, "round")
            try:
                found = play(seed, directory, ground.server, ground.network, clock=ground.clock, **how)
            except AssertionError as error:
                found = Report(seeds=[seed], failures=[f"seed {seed}: {error}"])
            shutil.rmtree(directory)
            report.add(found)
            told = summary(report, (boot_sec() - began_sec) / 60, complaint)
            (BUILD / "chaos.md").write_text(told)
            print(told.splitlines()[0], flush=True)
            seed += 1
    print(told)
    shutil.rmtree(home, ignore_errors=True)
    return 1 if report.overlaps or report.failures or report.late(BUSY_SEC) else 0


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    sys.exit(main(given[0], int(given[1]) if len(given) > 1 else random.randrange(1_000_000)))
