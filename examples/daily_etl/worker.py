"""One worker of a daily load: reads CSV files and loads each file's rows exactly once.

Run it under another name on every machine, all with the same day and directory, as often as you like:
`SYNC_DSN=postgresql://... python worker.py worker-1 2026-11-22 /data/2026-11-22`. Kill it, start it again.
"""

import csv
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from jobsync import AlreadyDone, CoordinationConfig, Job, OwnershipLost

COPY = "copy sale (file, line, customer, cents, node) from stdin"

# Stands for the time that a real file takes to fetch and to clean.
FILE_SEC = float(os.environ.get("ETL_FILE_SEC", "0"))


def load_all(name: str, day: str, directory: Path) -> None:
    """Load the files of one day, together with whoever else does, until all of them are in."""
    files = sorted(path.name for path in directory.glob("*.csv"))
    config = CoordinationConfig.from_env()
    with Job(name, coordination_config=config, date=day, run=f"daily-{day}", handle_signals=True) as job:
        for task in job.tasks(files):
            rows = read(directory / str(task.id))
            # The rows and the mark "this file is done" commit together, or not at all. A file that is done already, or
            # that went to another worker meanwhile, writes nothing: somebody else has it.
            with suppress(AlreadyDone, OwnershipLost), job.transaction(task) as conn, conn.cursor().copy(COPY) as copy:
                for line, (customer, cents) in enumerate(rows, start=1):
                    copy.write_row((task.id, line, customer, cents, name))


def read(path: Path) -> list[tuple[str, int]]:
    """Read one file: who bought, and for how much. What takes long stands here, before the transaction."""
    time.sleep(FILE_SEC)
    with path.open(newline="") as file:
        return [(row["customer"], int(row["cents"])) for row in csv.DictReader(file)]


if __name__ == "__main__":
    load_all(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
