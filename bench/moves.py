"""Joins, stops, kills and pauses of real processes: how long it takes, and what was owned twice."""

import signal
from collections.abc import Sequence
from statistics import median

from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread, weighted_median, worst
from bench.fleet import Fleet, Worker, boot_sec, wait_until, wall_minus_boot_sec
from bench.intervals import Interval, Overlap, as_details, first_yes, last_yes, overlaps
from jobsync import TokenSet

TOTAL = 10_000
HEARTBEAT_SEC = 5.0

# --- single events -------------------------------------------------------------------------------


def one_join(fleet: Fleet) -> tuple[float, Worker]:
    """Let one process join; give the milliseconds from its row's `created_on` until it says yes to its whole share."""
    worker = fleet.prepare()
    worker.wait_for("ready")
    fleet.enter(worker)
    worker.wait_for("entered")
    fleet.settle()
    name = worker.names[0]
    created = fleet.rows(f"select extract(epoch from created_on)::float8 from sync_node where name = '{name}'")[0][0]
    registered = created - wall_minus_boot_sec()
    share = TOTAL // sum(len(each.names) for each in fleet.workers)

    def shares() -> list[Interval]:
        return [each for each in worker.log.read().intervals if len(each.tokens) >= share]

    wait_until(lambda: bool(shares()), f"{name} says yes to {share} tokens")
    return (min(each.start for each in shares()) - registered) * 1000, worker


def one_stop(fleet: Fleet, worker: Worker, *, by_signal: bool) -> list[tuple[float, int]]:
    """Let one process leave; give, by tokens, the milliseconds from its last yes to the next owner's first."""
    held = fleet.held_by([worker])
    if by_signal:
        worker.signal(signal.SIGTERM)
    else:
        worker.stop()
    worker.wait_for("left")
    fleet.dismiss(worker)
    fleet.settle()
    gaps: list[tuple[float, int]] = []
    for end, tokens in last_yes(worker.log.read().intervals, held):
        reached = _wait_for_yes(fleet, tokens, after=end)
        gaps += [(seconds * 1000, count) for seconds, count in reached]
    return gaps


def one_kill(fleet: Fleet, victims: Sequence[Worker]) -> float:
    """Kill processes at once; give the seconds until survivors say yes to every token that the victims had."""
    held, at = fleet.held_by(victims), boot_sec()
    for victim in victims:
        victim.signal(signal.SIGKILL)
    for victim in victims:
        victim.kill()
        fleet.dismiss(victim)
    fleet.settle()
    return max(seconds for seconds, _ in _wait_for_yes(fleet, held, after=at))


def _wait_for_yes(fleet: Fleet, tokens: TokenSet, *, after: float) -> list[tuple[float, int]]:
    reached: list[list[tuple[float, int]]] = []

    def all_answered() -> bool:
        found = first_yes(fleet.intervals(fleet.workers), tokens, after)
        if found is not None:
            reached.append(found)
        return found is not None

    wait_until(all_answered, "every token is somebody's")
    return reached[0]


# --- figures -------------------------------------------------------------------------------------


def join(context: Context) -> list[Figure]:
    """A third process joins two, again and again."""
    n = context.repeats(20, 5)
    with context.fleet() as fleet:
        fleet.fill(2)
        took = []
        for _ in range(n):
            milliseconds, worker = one_join(fleet)
            took.append(milliseconds)
            worker.stop()
            worker.wait_for("left")
            fleet.dismiss(worker)
            fleet.settle()
        context.tally.add(fleet, {"joins": n + 2, "stops": n})
    name = "join: registered to share owned, 3 nodes"
    return [join_figure(name, "join", took, asked_ms=50)]


def join_figure(name: str, bench: str, took: list[float], *, asked_ms: float) -> Figure:
    """Report joins."""
    details = {"ms": rounded(took)}
    met = median(took) <= asked_ms
    return Figure(name, f"{asked_ms:g} ms", spread(took, "ms"), len(took), met, command_for(bench), details)


def kill(context: Context) -> list[Figure]:
    """Three processes; the leader or a follower is killed, and another takes its place."""
    n = context.repeats(10, 3)
    with context.fleet() as fleet:
        leaders, followers = kills(fleet, size=3, each=n)
        context.tally.add(fleet, {"joins": 3 + 2 * n, "kills": 2 * n})
    return [kill_figure("SIGKILL to every token owned again, 3 nodes", "kill", leaders, followers, asked_sec=1.0)]


def kills(fleet: Fleet, *, size: int, each: int) -> tuple[list[float], list[float]]:
    """Kill the leader and a follower in turn, replacing each but the last; give the seconds for both kinds."""
    leaders, followers = [], []
    for _ in range(each):
        fleet.prepare()
        fleet.fill(size)
        leaders.append(one_kill(fleet, [fleet.leader()]))
        fleet.prepare()
        fleet.fill(size)
        followers.append(one_kill(fleet, [fleet.by_age()[-1]]))
    return leaders, followers


def kill_figure(name: str, bench: str, leaders: list[float], followers: list[float], *, asked_sec: float) -> Figure:
    """Report kills of both kinds together."""
    both = leaders + followers
    details = {"leader_sec": rounded(leaders), "follower_sec": rounded(followers)}
    met = max(both) <= asked_sec
    return Figure(name, f"{asked_sec:g} s", worst(both, "s"), len(both), met, command_for(bench), details)


def kill_both(context: Context) -> list[Figure]:
    """Leader and deputy are killed in one instant; two others remain."""
    n = context.repeats(10, 3)
    took = []
    with context.fleet() as fleet:
        for _ in range(n):
            fleet.prepare()
            fleet.fill(4)
            took.append(one_kill(fleet, fleet.by_age()[:2]))
        context.tally.add(fleet, {"joins": 4 + 2 * (n - 1), "kills": 2 * n})
    asked_sec, details = HEARTBEAT_SEC + 1, {"sec": rounded(took)}
    name = "leader and deputy killed together, 4 nodes"
    figure = Figure(
        name, f"{asked_sec:g} s", worst(took, "s"), n, max(took) <= asked_sec, command_for("kill-both"), details
    )
    return [figure]


def stop(context: Context) -> list[Figure]:
    """Three processes; one stops, by stop() and by SIGTERM, leader and follower in turn."""
    n = context.repeats(20, 4)
    gaps: list[list[tuple[float, int]]] = []
    with context.fleet(handle_signals=True) as fleet:
        for turn in range(n):
            fleet.prepare()
            fleet.fill(3)
            leaver = fleet.by_age()[0 if turn % 4 < 2 else -1]
            gaps.append(one_stop(fleet, leaver, by_signal=turn % 2 == 1))
        context.tally.add(fleet, {"joins": 3 + n - 1, "stops": n})
    return stop_figures("stop() or SIGTERM: token without owner, 3 nodes", "stop", gaps, asked_ms=50)


def stop_figures(name: str, bench: str, gaps: list[list[tuple[float, int]]], *, asked_ms: float) -> list[Figure]:
    """Report the median token, and the worst token, of each stop."""
    middles = [weighted_median(each) for each in gaps]
    worsts = [max(value for value, _ in each) for each in gaps]
    details = {"median_token_ms": rounded(middles), "worst_token_ms": rounded(worsts)}
    met, command = median(worsts) <= asked_ms, command_for(bench)
    return [
        Figure(f"{name}, its worst token", f"{asked_ms:g} ms", spread(worsts, "ms"), len(gaps), met, command, details),
        Figure("  the same, its median token", "-", spread(middles, "ms"), len(gaps), None, command),
    ]


def overlap(context: Context) -> list[Figure]:
    """Count what was owned twice in all runs so far, and while processes are paused and cut off as well."""
    if not context.tally.samples:
        for measure in (join, kill, kill_both, stop):
            measure(context)
    n = context.repeats(5, 2)
    with context.fleet() as fleet:
        _pauses(fleet, n)
        context.tally.add(fleet, {"joins": 3, "pauses with the session ended": n})
    tally, control = context.tally, _control(context, n)
    events = ", ".join(f"{count} {what}" for what, count in sorted(tally.events.items()))
    details = {
        "samples": tally.samples, "events": tally.events, "overlaps": as_details(tally.found),
        "disagreements of can_claim_task and my_tokens": tally.disagreements,
        "control_overlaps": as_details(control),
    }  # fmt: skip
    command = command_for("overlap")
    good = not tally.found and not tally.disagreements
    reached = f"{sum(each.tokens for each in tally.found)} in {tally.samples:,} samples; {events}"
    longest = max((each.lasted_sec for each in control), default=0.0) * 1000
    lapses = f"{len(control)} overlaps, to {longest:.0f} ms, in {n} pauses"
    return [
        Figure("tokens owned by two live nodes at one instant", "0", reached, tally.samples, good, command, details),
        Figure("  control: the same check, leases ignored", "> 0", lapses, n, bool(control), command),
    ]


def _pauses(fleet: Fleet, n: int) -> None:
    """Freeze a process, have its session ended, wait until others own its tokens, and let it go on."""
    fleet.fill(3)
    for _ in range(n):
        frozen = fleet.by_age()[-1]
        frozen.signal(signal.SIGSTOP)
        held, at = fleet.held_by([frozen]), boot_sec()
        fleet.end_sessions_of(frozen)
        fleet.workers.remove(frozen)
        _wait_for_yes(fleet, held, after=at)
        fleet.workers.append(frozen)
        frozen.signal(signal.SIGCONT)
        fleet.settle()


def _control(context: Context, n: int) -> list[Overlap]:
    """Show that the check can fail: the same pauses, with processes that ignore their leases."""
    with context.fleet(trusting=True) as fleet:
        _pauses(fleet, n)
        return overlaps(fleet.intervals())
