"""Play a queue of pictures: three workers, two hundred pictures, one SIGKILL in the middle, one upload that is late.

`python examples/thumbnails/play.py` ends with a verdict: 0 only if every thumbnail stands in the table exactly once, in
a table that has no unique key, and is what the picture makes. What a user writes is worker.py.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.stage import Check, Stage
from examples.thumbnails.picture import Picture, write_ppm
from jobsync import CoordinationConfig, JobQueue, NewJob

WORKER = Path(__file__).with_name("worker.py")
PICTURES = 200
SIZE, BY = 48, 8
PICTURE_SEC = 0.05
LATE = "photo-000.ppm"
TABLES = """
create table thumbnail (
    file text not null, worker text not null, width integer not null, height integer not null, picture bytea not null
)
"""

Thumbnails = Mapping[str, bytes]


def make_pictures(directory: Path, count: int, seed: int = 1) -> dict[str, bytes]:
    """Write pictures of coloured squares; give the thumbnail of each, known before any is made: one pixel a square."""
    rng = random.Random(seed)  # noqa: S311 - colours, not secrets
    directory.mkdir()
    cells = SIZE // BY
    thumbnails = {}
    for number in range(count):
        squares = [[rng.randbytes(3) for _ in range(cells)] for _ in range(cells)]
        pixels = b"".join(square * BY for row in squares for _ in range(BY) for square in row)
        name = f"photo-{number:03}.ppm"
        (directory / name).write_bytes(write_ppm(Picture(SIZE, SIZE, pixels)))
        thumbnails[name] = write_ppm(Picture(cells, cells, b"".join(b"".join(row) for row in squares)))
    return thumbnails


def judge(
    wanted: Thumbnails, found: Iterable[tuple[str, bytes]], counts: Mapping[str, int], crashed: int, tries: int
) -> list[Check]:
    """Compare the table with the pictures; `crashed` jobs lost their worker, the late upload took so many `tries`."""
    rows = list(found)
    times = Counter(name for name, _ in rows)
    once = sum(times[name] == 1 for name in wanted)
    wrong = sum(wanted.get(name) != picture for name, picture in rows)
    return [
        Check(
            "each thumbnail exactly once",
            once == len(wanted) > 0 and set(times) == set(wanted),
            f"{once} of {len(wanted)}; missing {len(wanted) - len(times.keys() & wanted.keys())}, "
            f"twice {sum(count > 1 for count in times.values())}",
        ),
        Check("each is what its picture makes", bool(rows) and not wrong, f"{len(rows) - wrong} right, {wrong} wrong"),
        Check("every job is done", counts["done"] == len(wanted) == sum(counts.values()), f"{counts['done']} done"),
        Check("the kill hit jobs in hand", crashed > 0, f"{crashed} jobs lost their worker, and were done by others"),
        Check("the late upload was waited for", tries > 1, f"{LATE} was done at attempt {tries}"),
    ]


def main() -> int:
    """Play it and give the exit status."""
    os.environ["PICTURE_SEC"] = str(PICTURE_SEC)
    with Stage("thumbnails", TABLES) as stage, JobQueue(CoordinationConfig(dsn=stage.dsn)) as queue:
        directory = stage.directory / "in"
        wanted = make_pictures(directory, PICTURES)
        late = (directory / LATE).read_bytes()
        (directory / LATE).write_bytes(b"")
        queue.enqueue_many(
            NewJob("thumbnail", {"file": str(directory / name), "by": BY}, job_id=name, max_attempts=10)
            for name in wanted
        )
        stage.say(f"{PICTURES} pictures are in the queue; three workers take them up")
        for number in (1, 2, 3):
            stage.start(f"worker-{number}", WORKER, f"worker-{number}")
        stage.wait_until(lambda: bool(queue.get_by_job_id(LATE).last_error), f"{LATE} is tried in vain")  # type: ignore[union-attr]
        (directory / LATE).write_bytes(late)
        stage.say(f"{LATE}, which was empty, is complete now; its job waits for its next attempt")
        stage.wait_until(lambda: queue.counts()["done"] >= PICTURES / 3, "a third is done")
        held = [lease.id for lease in queue.get_active_leases() if lease.worker_id == "worker-2"]
        stage.say(f"worker-2 is killed (SIGKILL) with {len(held)} jobs in hand")
        stage.kill("worker-2")
        after_sec = stage.wait_until(
            lambda: all(lease.worker_id != "worker-2" for lease in queue.get_active_leases()), "others have its jobs"
        )
        stage.say(f"others have them {after_sec:.1f} s after")
        stage.wait_until(lambda: queue.counts()["done"] == PICTURES, "every picture is done")
        stage.say("every job is done; the workers are told to stop")
        crashed = sum(job.crashes > 0 for job in queue.list_jobs(limit=PICTURES))
        tries = queue.get_by_job_id(LATE).attempts  # type: ignore[union-attr]
        statuses = [stage.stop(f"worker-{number}") for number in (1, 3)]
        left_well = Check("who was told to stop left well", statuses == [0, 0], f"exit statuses {statuses}")
        rows = stage.query("select file, picture from thumbnail")
        return stage.verdict([*judge(wanted, rows, queue.counts(), crashed, tries), left_well])


if __name__ == "__main__":
    sys.exit(main())
