"""A process with one `ProcessingWorker`, and what its handlers saw. Started by `bench.queue`; speaks JSON lines.

python -m bench.queue_worker DSN PREFIX CONCURRENCY

{"ready": ...}       it works
{"first": ...}       its first `noop` begins
{"pickup_ms": ...}   how long after its enqueueing a `stamped` job began
{"begun": id, "at": ..., "attempts": ...}   a `told` job begins
{"slept": n, "at": ...}  a `sleep` job begins
"""

import json
import signal
import sys
import threading
import time
from typing import Any

from jobsync import CoordinationConfig, ProcessingWorker


def say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def boot_sec() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def make(dsn: str, prefix: str, concurrency: int) -> ProcessingWorker:
    worker = ProcessingWorker(CoordinationConfig(dsn=dsn, appname=prefix), max_concurrent_jobs=concurrency)
    first = threading.Event()

    @worker.handles("noop")
    def noop(_: Any) -> None:
        if not first.is_set():
            first.set()
            say(first=boot_sec())

    @worker.handles("stamped")
    def stamped(job: Any) -> None:
        say(pickup_ms=(boot_sec() - job.payload["at"]) * 1000)

    @worker.handles("told")
    def told(job: Any) -> None:
        say(begun=job.id, at=boot_sec(), attempts=job.attempts)
        time.sleep(job.payload["sec"])

    @worker.handles("logged")
    def logged(job: Any) -> None:
        # The work of about a millisecond; then it is written down at once that it was finished.
        until_sec = boot_sec() + job.payload["sec"]
        while boot_sec() < until_sec:
            pass
        say(finished=job.id)

    @worker.handles("written")
    def written(job: Any) -> None:
        with worker.transaction(job) as conn:
            conn.execute(f"insert into {prefix}effects values (%s)", (job.id,))

    @worker.handles("sleep")
    def sleep(job: Any) -> None:
        say(slept=job.payload["number"], at=boot_sec())
        time.sleep(job.payload["sec"])

    return worker


def main() -> None:
    dsn, prefix, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
    worker = make(dsn, prefix, concurrency)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    worker.start()
    say(ready=boot_sec())
    try:
        threading.Event().wait()
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
