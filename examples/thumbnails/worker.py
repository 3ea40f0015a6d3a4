"""One worker of the queue: pictures come in as jobs, thumbnails go out as rows.

`python examples/thumbnails/worker.py NAME`; where the database is, the environment says (SYNC_DSN). The command starts
it as well: `jobsync worker examples.thumbnails.worker:Thumbnails --concurrency 2`.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.thumbnails.picture import read_ppm, shrink, write_ppm
from jobsync import LeaseLost, ProcessingWorker, RetryPolicy, RunningJob

PICTURE_SEC = float(os.environ.get("PICTURE_SEC", "0"))  # The play draws the work out, to kill in the middle of it.


class Thumbnails(ProcessingWorker):
    """Makes pictures small."""

    def process_job(self, job: RunningJob) -> dict[str, Any]:
        """Make one picture small. Its row and the job's `done` commit together: whoever dies, it is there once."""
        path = Path(job.payload["file"])
        if path.stat().st_size == 0:
            raise ValueError(f"{path.name} is empty: it is still being uploaded")
        small = shrink(read_ppm(path.read_bytes()), job.payload["by"])
        time.sleep(PICTURE_SEC)
        # LeaseLost means that this process was taken for dead and another one has the job: nothing is written here.
        with suppress(LeaseLost), self.transaction(job) as conn:
            conn.execute(
                "insert into thumbnail (file, worker, width, height, picture) values (%s, %s, %s, %s, %s)",
                [path.name, job.worker_id, small.width, small.height, write_ppm(small)],
            )
        return {"width": small.width, "height": small.height}


if __name__ == "__main__":
    Thumbnails(
        worker_id=sys.argv[1], max_concurrent_jobs=2, retry=RetryPolicy(first_sec=0.2), handle_signals=True
    ).run()
