"""One seed, one history: the storm, the calm, and the verdict."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from jobsync.core import messages as m
from jobsync.core.settings import Settings
from jobsync.postgres.virtual_server import VirtualServer
from jobsync.simulation.checkers import Violated
from jobsync.simulation.network import FROZEN_CHANCE
from jobsync.simulation.rest import unrest
from jobsync.simulation.storm import POOL_SIZES, Storm
from jobsync.simulation.world import MakeMember, World, real_member

STORM_SEC = 12.0
REST_WITHIN_SEC = 25.0
LOOK_EVERY_SEC = 0.25
STEERED_CHANCE = 0.4
RESIZED_CHANCE = 0.15
QUICK = Settings(
    total_tokens=24,
    heartbeat_interval_sec=0.9,
    heartbeat_timeout_sec=3,
    rebalance_check_interval_sec=2,
    dead_node_check_interval_sec=1,
    handover_timeout_sec=0.5,
    session_lease_sec=0.75,
    leader_lock_timeout_sec=2,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the world of a seed is like. None: the seed decides."""

    storm_sec: float = STORM_SEC
    nodes: int | None = None
    direct: bool | None = None
    fail_over: bool | None = None
    tokenless: float | None = None
    total_tokens: int | None = None
    faults: tuple[tuple[str, int], ...] = ()  # those that fall, with their weights; empty: all, with their own
    frozen_chance: float = FROZEN_CHANCE
    steered: bool | None = None  # whether people cordon, drain, freeze and resume
    resized: bool | None = None  # whether the fleet is stopped and started with another number of tokens
    lost_changes: int = 2  # of locks, whose moves a fail-over loses


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed.

    `violated` begins with the invariant's name, and is empty when all held. `rest_sec` is how long the fleet needed to
    come to rest; `node_sec` is the life time of all its processes, added up.
    """

    seed: int
    violated: str
    virtual_sec: float
    node_sec: float
    rest_sec: float
    statements: int
    faults: dict[str, int]
    facts: dict[str, int]
    writes: int
    trace: list[str] = field(default_factory=list)


def run_seed(
    virtual: VirtualServer,
    seed: int,
    plan: Plan | None = None,
    *,
    traced: bool = False,
    make_member: MakeMember = real_member,
) -> Outcome:
    """Live through one seed, storm and calm. An invariant that breaks ends it, and stands in the outcome."""
    plan = Plan() if plan is None else plan
    dice = Random(f"plan of {seed}")
    direct = dice.random() < 0.7 if plan.direct is None else plan.direct
    names = tuple(f"n{i}" for i in range(dice.choice((2, 3, 3, 4, 5)) if plan.nodes is None else plan.nodes))
    total = dice.choice(POOL_SIZES)
    total = total if plan.total_tokens is None else plan.total_tokens
    fail_over = dice.random() < 0.3 if plan.fail_over is None else plan.fail_over
    tokenless = dice.choice((0.0, 0.0, 0.0, 0.3)) if plan.tokenless is None else plan.tokenless
    steered = dice.random() < STEERED_CHANCE if plan.steered is None else plan.steered
    resized = dice.random() < RESIZED_CHANCE if plan.resized is None else plan.resized
    world = World(virtual, seed, direct=direct, traced=traced, make_member=make_member)
    world.network.frozen_chance = plan.frozen_chance
    storm = Storm(world, settings_of(total), names, tokenless=tokenless)
    before = virtual.statements
    violated, rest_sec = "", 0.0
    try:
        storm.lost_changes = plan.lost_changes
        for name in names:
            storm.start(name)
            world.agenda.run(world.random.uniform(0, 0.2))
        storm.may(fail_over=fail_over, steered=steered, resized=resized)
        storm.rage(plan.storm_sec, only=dict(plan.faults))
        storm.subside()
        rest_sec = settle(world, keep_one=storm.keep_one)
        if steered:
            storm.resume_everything()
            settle(world, keep_one=storm.keep_one)
    except Violated as error:
        violated = str(error)
        world.agenda.note("judge", violated)
    finally:
        world.server.abort_users()
    return Outcome(
        seed=seed,
        violated=violated,
        virtual_sec=world.agenda.now_sec,
        node_sec=world.node_sec + sum(world.agenda.now_sec - p.born_sec for p in world.processes),
        rest_sec=rest_sec,
        statements=virtual.statements - before,
        faults=dict(storm.counts),
        facts={kind.value: count for kind, count in world.facts.items()},
        writes=storm.users.committed,
        trace=world.agenda.trace or [],
    )


def settings_of(total_tokens: int) -> Settings:
    """Give quick leases, and so many tokens."""
    given = QUICK.given_values() | {"total_tokens": total_tokens}
    return Settings.merged(given)


def settle(world: World, *, within_sec: float = REST_WITHIN_SEC, keep_one: Callable[[], None] = lambda: None) -> float:
    """Let time pass until the fleet is at rest (I9), and stays there for a moment; give how long that took."""
    began_sec = world.agenda.now_sec
    said = "nothing ran"
    while world.agenda.now_sec < began_sec + within_sec:
        world.agenda.run(LOOK_EVERY_SEC)
        keep_one()
        said = _unrest(world)
        if not said:
            return world.agenda.now_sec - began_sec
    raise Violated(f"I9: no rest within {within_sec:g} s: {said}")


def _unrest(world: World) -> str:
    there = [p for p in world.processes if p.standing.phase is m.Phase.LIVE]
    if len(there) != len(world.processes):
        return f"{len(world.processes) - len(there)} processes are on their way in or out"
    inputs = world.server.read(m.ReadPlanInputs(locks_enabled=True))
    assert isinstance(inputs, m.PlanInputs)
    held = [(p.name, p.held_now()) for p in there]
    if false := world.server.false_records():
        return f"written down as without an owner, wrongly: {false}"
    steering = world.server.show_plan().steering
    return unrest(world.server.show(), inputs.targets, held, inputs.locks, inputs.total_tokens, steering)


def replay(virtual: VirtualServer, seed: int, plan: Plan | None = None) -> Outcome:
    """Live through a seed once more, with a trace."""
    return run_seed(virtual, seed, plan, traced=True)
