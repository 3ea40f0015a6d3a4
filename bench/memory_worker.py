"""One of the processes whose memory `bench.memory` measures. It imports nothing but what a worker needs."""

import json
import sys
import time
from pathlib import Path

import psycopg

from jobsync import CoordinationConfig, Job, runtime

ASKED_IDS = 10_000


def uss_kb() -> int:
    """Read this process's private memory."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def main(dsn: str, prefix: str, name: str, total_tokens: str, idle_sec: str, fleet: str) -> None:
    """Be one of the processes measured."""
    for part in runtime.__all__:
        getattr(runtime, part)  # What a job loads when it is entered is code, which is there once and for all.
    config = CoordinationConfig(dsn=dsn, appname=prefix, total_tokens=int(total_tokens), minimum_nodes=int(fleet))
    with psycopg.connect(dsn) as conn:
        conn.execute("select 1").fetchall()
        told = {"plain": uss_kb()}
    with Job(name, coordination_config=config) as job:
        time.sleep(float(idle_sec))
        told["idle"] = uss_kb()
        for number in range(ASKED_IDS):
            job.can_claim_task(number)
        told["asked"] = uss_kb()
        time.sleep(2)  # Nobody leaves while others are still being measured.
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
