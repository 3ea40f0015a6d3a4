"""Play a daily load: three workers, a few hundred files, one SIGKILL in the middle, and a restart.

`python examples/daily_etl/play.py` ends with a verdict: 0 only if every file's rows stand in the table exactly once,
in a table that has no unique key. What a user writes is worker.py.
"""

import csv
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.stage import Check, Stage
from jobsync import CoordinationConfig, Job

WORKER = Path(__file__).with_name("worker.py")
FILES = 300
FILE_SEC = 0.03
TABLES = """
create table sale (
    file text not null, line integer not null, customer text not null, cents bigint not null, node text not null
)
"""

Rows = Counter[tuple[str, int, str, int]]


def make_files(directory: Path, count: int, seed: int = 1) -> Rows:
    """Write the CSV files of one day; give all their rows, as they must stand in the table."""
    rng = random.Random(seed)  # noqa: S311 - sales, not secrets
    rows: Rows = Counter()
    directory.mkdir()
    for number in range(count):
        path = directory / f"shop-{number:03}.csv"
        sales = [(f"customer-{rng.randrange(500)}", rng.randrange(50, 9_000)) for _ in range(rng.randrange(5, 40))]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("customer", "cents"), *sales])
        rows.update((path.name, line, *sale) for line, sale in enumerate(sales, start=1))
    return rows


def judge(source: Rows, loaded: Iterable[tuple[str, int, str, int]], left: int, incomplete: int) -> list[Check]:
    """Compare the table with the files; `left` is what the killed worker had claimed and not done."""
    found: Rows = Counter(loaded)
    files = {file for file, *_ in source}
    missing, extra = {row[0] for row in source - found}, {row[0] for row in found - source}
    sums = [sum(row[3] * times for row, times in rows.items()) for rows in (source, found)]
    once = len(files - missing - extra)
    return [
        Check(
            "each file's rows exactly once",
            bool(files) and not missing and not extra,
            f"{once} of {len(files)} files; rows missing in {len(missing)}, too many in {len(extra)}",
        ),
        Check("the sum is the source's", sums[0] == sums[1], f"{sums[1]:,} of {sums[0]:,} cents"),
        Check("the kill left work undone", left > 0, f"{left} files claimed by the killed worker, not done"),
        Check("in the end nothing is incomplete", incomplete == 0, f"{incomplete} files claimed by the gone, not done"),
    ]


def main() -> int:
    """Play it and give the exit status."""
    os.environ["ETL_FILE_SEC"] = str(FILE_SEC)
    with Stage("daily_etl", TABLES) as stage:
        day = str(stage.value("select current_date"))
        source = make_files(stage.directory / "in", FILES)
        stage.say(f"{FILES} files with {source.total():,} rows; three workers load them in run 'daily-{day}'")

        def loaded(node: str = "%") -> int:
            return int(stage.value("select count(distinct file) from sale where node like %s", node))

        for number in (1, 2, 3):
            stage.start(f"worker-{number}", WORKER, f"worker-{number}", day, stage.directory / "in")
        stage.wait_until(lambda: loaded("worker-2") and loaded() >= FILES / 3, "a third is loaded")
        stage.say(f"{loaded()} files are loaded: worker-2 is killed (SIGKILL), in the middle of whatever it does")
        stage.kill("worker-2")

        # An observer joins nothing: it looks.
        config = CoordinationConfig(dsn=stage.dsn)
        with Job("observer", coordination_config=config, date=day, run=f"daily-{day}", observer=True) as job:
            left: list[str] = []

            def dead_left_something() -> bool:
                left[:] = [str(task.id) for task in job.get_incomplete_tasks(older_than=timedelta(0))]
                return bool(left) or loaded() == FILES

            stage.wait_until(dead_left_something, "the dead worker's claims are found")
            stage.say(f"get_incomplete_tasks(): {len(left)} claimed by the dead, not done: {', '.join(left[:3])} ...")
            stage.start("worker-2", WORKER, "worker-2", day, stage.directory / "in")
            stage.say("worker-2 is started again, under its old name")
            stage.wait_until(lambda: loaded() == FILES, "all files are loaded")
            stage.say(f"all {FILES} files are loaded")
            for number in (1, 2, 3):
                stage.wait_until(partial(stage.has_ended, f"worker-{number}"), f"worker-{number} ends by itself")
            incomplete = len(job.get_incomplete_tasks(older_than=timedelta(0)))
        stage.say(", ".join(f"worker-{number} loaded {loaded(f'worker-{number}')}" for number in (1, 2, 3)))
        found = [(file, line, customer, cents) for file, line, customer, cents, _ in stage.query("select * from sale")]
        return stage.verdict(judge(source, found, len(left), incomplete))


if __name__ == "__main__":
    sys.exit(main())
