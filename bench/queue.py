"""What the leased queue does a second, how soon it picks up, and what a kill costs.

The workers are processes of their own, on the machine of the server; each job calls its handler through the public
path, and counts when its `done` is committed, with fsync and synchronous_commit on.
"""

import time
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import psycopg

from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread, worst
from bench.queue_crew import Crew, boot_sec
from jobsync import NewJob

MILLION = 1_000_000
CHECKPOINT = "select redo_lsn::text from pg_control_checkpoint()"


def _drained(context: Context, workers: int, count: int) -> float:
    """Drain once, in tables of their own."""
    with Crew(context) as crew:
        return _from_a_start(crew, workers, count)


def _from_a_start(crew: Crew, workers: int, count: int) -> float:
    """Enqueue, start fresh workers, and measure from the first call of a handler to the last commit."""
    crew.dismiss()
    crew.until(lambda: crew.queue.reset_expired_leases() == 0 and crew.is_empty())
    crew.queue.enqueue_many(("noop", {"n": number}) for number in range(count))
    started = crew.start(workers)
    end_sec = crew.until(crew.is_empty)
    began = [heard["first"] for worker in started for heard in worker.all_heard("first")]
    rate: float = count / (end_sec - min(began))
    return rate


def drain(context: Context) -> list[Figure]:
    """Drain jobs that do nothing, with one worker process and with two."""
    count, repeats = context.repeats(100_000, 20_000), context.repeats(5, 2)
    figures = []
    for workers, asked in ((1, 40_000), (2, 60_000)):
        rates = [_drained(context, workers, count) for _ in range(repeats)]
        figures.append(
            Figure(
                f"drain, {workers} worker process{'es' if workers > 1 else ''}",
                f"{asked:,} jobs/s",
                spread(rates, "jobs/s", digits=0),
                repeats,
                median(rates) >= asked,
                command_for("drain"),
                {"jobs_per_sec": rounded(rates, 0), "jobs": count},
            )
        )
    return figures


def enqueue(context: Context) -> list[Figure]:
    """Enqueue in bulk; and one at a time beside bare inserts, in turns."""
    count, repeats = context.repeats(200_000, 50_000), context.repeats(7, 3)
    bulk, ratios, singles, bares = [], [], [], []
    with Crew(context) as crew:
        crew.conn.execute(
            f"create table {crew.prefix}bare "
            "(id bigint generated always as identity primary key, payload jsonb)".encode()
        )
        bare = f"insert into {crew.prefix}bare (payload) values (%s)".encode()
        crew.queue.enqueue("noop", {"n": 0})
        for _ in range(repeats):
            began = time.perf_counter()
            crew.queue.enqueue_many(("noop", {"n": number}) for number in range(count))
            bulk.append(count / (time.perf_counter() - began))
        with psycopg.connect(context.dsn, autocommit=True) as conn:
            for _ in range(repeats):
                took = {"bare": 0.0, "single": 0.0}
                turns = context.repeats(20, 5)
                for _ in range(turns):
                    began = time.perf_counter()
                    for number in range(50):
                        conn.execute(bare, (f'{{"n": {number}}}',))
                    took["bare"] += time.perf_counter() - began
                    began = time.perf_counter()
                    for number in range(50):
                        crew.queue.enqueue("noop", {"n": number})
                    took["single"] += time.perf_counter() - began
                bares.append(turns * 50 / took["bare"])
                singles.append(turns * 50 / took["single"])
                ratios.append(100 * took["bare"] / took["single"])
    command = command_for("enqueue")
    return [
        Figure("bulk enqueue", "150,000 jobs/s", spread(bulk, "jobs/s", digits=0), repeats, median(bulk) >= 150_000,
               command, {"jobs_per_sec": rounded(bulk, 0)}),
        Figure("single enqueue, of bare inserts' speed", "90 %", spread(ratios, "%"), repeats, median(ratios) >= 90,
               command, {"single_per_sec": rounded(singles, 0), "bare_per_sec": rounded(bares, 0)}),
        Figure("  single enqueue", "-", spread(singles, "jobs/s", digits=0), repeats, None, command),
        Figure("  bare single-row INSERT commits", "-", spread(bares, "/s", digits=0), repeats, None, command),
    ]  # fmt: skip


def pickup(context: Context) -> list[Figure]:
    """Enqueue to an idle worker, now and then."""
    count = context.repeats(1_000, 100)
    with Crew(context) as crew:
        (worker,) = crew.start()
        crew.queue.enqueue("stamped", {"at": boot_sec()})
        worker.hear("pickup_ms")
        for _ in range(count):
            time.sleep(0.02)
            crew.queue.enqueue("stamped", {"at": boot_sec()})
        delays = [worker.hear("pickup_ms")["pickup_ms"] for _ in range(count)]
    cuts = quantiles(delays, n=100)
    command = command_for("pickup")
    details = {"p50_ms": round(cuts[49], 2), "p90_ms": round(cuts[89], 2), "p99_ms": round(cuts[98], 2)}
    return [
        Figure("pick-up by an idle worker, p50", "2 ms", f"{cuts[49]:.2f} ms", count, cuts[49] <= 2, command, details),
        Figure("  p99", "8 ms", f"{cuts[98]:.2f} ms (most {max(delays):.1f})", count, cuts[98] <= 8, command),
    ]


def crash(context: Context) -> list[Figure]:
    """Kill the worker that holds a job; the other one runs it."""
    kills = context.repeats(20, 4)
    took = []
    with Crew(context) as crew:
        crew.start(2)
        for _ in range(kills):
            job = crew.queue.enqueue("told", {"sec": 60})
            holder = crew.until_begun(job)
            killed_sec = boot_sec()
            holder.kill()
            crew.workers.remove(holder)
            (other,) = crew.workers
            took.append(other.hear("begun", 60)["at"] - killed_sec)
            crew.queue.cancel(job)
            crew.dismiss()
            crew.start(2)
    return [
        Figure("SIGKILL of the worker until another runs its job", "1.0 s", worst(took, "s"), kills, max(took) <= 1.0,
               command_for("crash"), {"sec": rounded(took)})
    ]  # fmt: skip


def half_way(context: Context) -> list[Figure]:
    """Kill a worker in the middle of 1,000 jobs of a millisecond; what was finished and ran again?"""
    repeats = context.repeats(5, 2)
    again, lost, twice = [], [], []
    for _ in range(repeats):
        with Crew(context) as crew:
            first, second = crew.start(2)
            crew.queue.enqueue_many(("logged", {"sec": 0.001}) for _ in range(1_000))
            crew.until(lambda crew=crew: crew.ask("select count(*) from {p}job_end") >= 400)  # type: ignore[misc]
            first.kill()
            crew.until(crew.is_empty)
            finished = [said["finished"] for worker in (first, second) for said in worker.all_heard("finished")]
            again.append(len(finished) - len(set(finished)))
            lost.append(1_000 - crew.ask("select count(*) from {p}job_end where status = 'done'"))
        with Crew(context) as crew:
            crew.conn.execute(f"create table {crew.prefix}effects (id bigint)".encode())
            first, second = crew.start(2)
            crew.queue.enqueue_many(("written", None) for _ in range(1_000))
            crew.until(lambda crew=crew: crew.ask("select count(*) from {p}job_end") >= 400)  # type: ignore[misc]
            first.kill()
            crew.until(crew.is_empty)
            lost[-1] += 1_000 - crew.ask("select count(distinct id) from {p}effects")
            twice.append(crew.ask("select count(*) - count(distinct id) from {p}effects"))
    command = command_for("half-way")
    return [
        Figure("1,000 jobs, worker killed half-way: lost", "0", str(sum(lost)), repeats, not sum(lost), command),
        Figure("  finished jobs run again", "10", worst(again, "jobs", digits=0), repeats, max(again) <= 10, command),
        Figure("  the same within worker.transaction()", "0", str(sum(twice)), repeats, not sum(twice), command),
    ]


def wal(context: Context) -> list[Figure]:
    """Count the WAL from take to done, history kept."""
    count, repeats = context.repeats(100_000, 20_000), context.repeats(3, 1)
    sizes: list[float] = []
    while len(sizes) < repeats:
        with Crew(context) as crew:
            crew.conn.execute("checkpoint")
            checkpoint = crew.ask(CHECKPOINT)
            crew.queue.enqueue_many(("noop", {"n": number}) for number in range(count))
            before = crew.ask("select pg_current_wal_lsn() - '0/0'")
            crew.start(1)
            crew.until(crew.is_empty)
            # A page's first change after a checkpoint writes the whole page: the checkpoint's doing, not the job's.
            if crew.ask(CHECKPOINT) == checkpoint:
                sizes.append(float(crew.ask("select pg_current_wal_lsn() - '0/0'") - before) / count)
    return [
        Figure("WAL a job, from take to done", "450 B", spread(sizes, "B", digits=0), repeats, median(sizes) <= 450,
               command_for("wal"))
    ]  # fmt: skip


def crowded(context: Context) -> list[Figure]:
    """Drain beside a million finished jobs, and beside a million waiting ones, against empty tables; in turns."""
    count, repeats = context.repeats(100_000, 20_000), context.repeats(3, 1)
    most = context.repeats(MILLION, MILLION // 10)
    rates: dict[str, list[float]] = {"empty": [], "finished": [], "waiting": []}
    with Crew(context) as finished, Crew(context) as waiting:
        _finish(finished, most)
        waiting.queue.enqueue_many(NewJob("other", {"n": number}) for number in range(most))
        waiting.queue.enqueue_many(NewJob("noop", {"n": number}, priority=-1) for number in range(most // 10))
        for crew in (finished, waiting):
            for table in ("body", "ready", "end"):
                crew.conn.execute(f"vacuum analyze {crew.prefix}job_{table}".encode())
        for _ in range(repeats):
            rates["empty"].append(_drained(context, 1, count))
            rates["finished"].append(_from_a_start(finished, 1, count))
            rates["waiting"].append(_of_many(waiting, count))
    command = command_for("crowded")
    figures = []
    for kind, said in (("finished", "1,000,000 finished rows"), ("waiting", "1,000,000 waiting rows")):
        ratios = [100 * mine / empty for mine, empty in zip(rates[kind], rates["empty"], strict=True)]
        figures.append(Figure(f"throughput with {said}, of the empty table's", "85 %", spread(ratios, "%"), repeats,
                              median(ratios) >= 85, command, {"jobs_per_sec": rounded(rates[kind], 0)}))  # fmt: skip
    return figures


def _finish(crew: Crew, count: int) -> None:
    """Have so many jobs that ended, as many workers would have left them."""
    crew.queue.enqueue_many(("noop", {"n": number}) for number in range(count))
    crew.conn.execute(
        f"with gone as (delete from {crew.prefix}job_ready returning id) "
        f"insert into {crew.prefix}job_end (id, epoch, started_at, attempts, crashes, status) "
        "select id, 1, clock_timestamp(), 1, 0, 'done' from gone".encode()
    )


def _of_many(crew: Crew, count: int) -> float:
    """Drain `count` of very many waiting jobs; the rest goes on waiting."""
    before = crew.ask("select count(*) from {p}job_end")
    crew.queue.enqueue_many(NewJob("noop", {"n": number}, priority=5) for number in range(count))
    (worker,) = crew.start(1)
    # By lane, as the index has it: a look that reads all that waits would be what is measured.
    left = (
        "select exists (select from {p}job_ready where priority = 5 "
        "and lane = (select lane from {p}job_lane where kind = 'noop'))"
    )
    end_sec = crew.until(lambda: not crew.ask(left))
    done = crew.ask("select count(*) from {p}job_end") - before
    began = worker.hear("first")["first"]
    rate: float = done / (end_sec - began)
    crew.stop()  # It gives back what it has fetched of the rest.
    crew.until(lambda: not crew.ask("select exists (select from {p}job_lease)"))
    return rate


def slow_one(context: Context) -> list[Figure]:
    """One job of ten seconds among 99 short ones, two workers: how long does any wait behind the slow one?"""
    repeats = context.repeats(5, 2)
    waits = []
    for _ in range(repeats):
        with Crew(context) as crew:
            workers = crew.start(2)
            crew.queue.pause(by="bench")
            crew.queue.enqueue_many(
                ("sleep", {"number": number, "sec": 10.0 if number == 10 else 0.002}) for number in range(100)
            )
            crew.queue.resume()
            began: list[dict[str, Any]] = []

            def all_begun(began: list[dict[str, Any]] = began, workers: list[Any] = workers) -> bool:
                began += [said for worker in workers for said in worker.all_heard("slept")]
                return len(began) == 100

            crew.until(all_begun, 30)
            slow_sec = next(said["at"] for said in began if said["slept"] == 10)
            instants = sorted(said["at"] for said in began if said["at"] >= slow_sec)
            waits.append(1000 * max(later - sooner for sooner, later in pairwise(instants)))
    return [
        Figure("one 10 s job among 99 short ones: longest pause of the rest", "100 ms", worst(waits, "ms", digits=0),
               repeats, max(waits) <= 100, command_for("slow-one"))
    ]  # fmt: skip


def idle_worker(context: Context) -> list[Figure]:
    """Count the statements of workers that have nothing to do, beats included."""
    seconds, workers = context.repeats(120, 30), 2
    with Crew(context) as crew:
        crew.start(workers)
        time.sleep(8)  # What an entry asks belongs to the entry.
        before, began = _statements(crew), boot_sec()
        time.sleep(seconds)
        lasted_sec = boot_sec() - began
        after = _statements(crew)
    grown = {text: calls - before.get(text, 0) for text, calls in after.items() if calls > before.get(text, 0)}
    a_minute = sum(grown.values()) / workers * 60 / lasted_sec
    return [
        Figure("idle worker, statements a minute, its beats included", "15", f"{a_minute:.1f}", workers,
               a_minute <= 15 if context.counts_statements else None, command_for("idle-worker"), {"by_text": grown})
    ]  # fmt: skip


def _statements(crew: Crew) -> dict[str, int]:
    rows = crew.conn.execute(
        "select left(s.query, 200), sum(s.calls)::int from pg_stat_statements s join pg_database d on d.oid = s.dbid "
        "where d.datname = current_database() and s.toplevel and s.query not like '%pg_stat%' "
        "and s.query not like '%session_seen%' group by 1"
    ).fetchall()
    return dict(rows)
