"""What a user may choose, what is refused or doubted, and the numbers of the protocol drawn from it.

Model: `Settings` is one immutable value that has been checked as a whole. It remembers which fields were
given, even where they equal the default, because several sources are merged field by field and a value that
somebody wrote down must win over one that nobody wrote. `Timing` holds the figures that the protocol runs on;
they are derived here, once, so that no other module does arithmetic on a lease.

Authoritative: the table in `setting_rules` for what a field may be; `Settings.__post_init__` for how fields
go together. What the protocol needs is refused; what merely looks unwise is accepted, and said by
`Settings.doubts`.

Not promised: that a database with these settings exists; nothing here connects, and a DSN is not parsed. A
password can be read by whoever holds the object (`vars`, pickles); only what is printed is kept free of it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import InitVar, dataclass
from inspect import Signature, signature
from typing import Any, Final, Self

from jobsync.core.errors import InvalidArgument, InvalidSettings, passwords_in
from jobsync.core.setting_rules import MAX_TOKENS, RULES, check_setting, setting_from_text

# --- the settings --------------------------------------------------------------------------------


def recommended_tokens(expected_tasks: int, expected_nodes: int) -> int:
    """Give a total of tokens that spreads the tasks evenly.

    The formula of the usage guide, max(tasks x 10, nodes x 100, 10000), but at most 1,000,000: ten tokens a
    task keep the share of each node close to its mean (the spread of a node's share falls with the square
    root of the tokens that it is drawn from).
    """
    for name, count in (("expected_tasks", expected_tasks), ("expected_nodes", expected_nodes)):
        if type(count) is not int or count < 0:
            raise InvalidArgument(f"{name}={count!r} is refused: give a whole number, 0 or more")
    return min(max(expected_tasks * 10, expected_nodes * 100, 10_000), MAX_TOKENS)


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """All that can be chosen about a cluster and a node of it; each field stands below with its default.

    Intervals and timeouts are in seconds, retentions in days, fractions allowed. A retention of None keeps
    for ever. Building one raises `InvalidSettings` (a `ValueError`) that names the field, its value, and the
    rule. `given` tells which fields were given; copies, pickles and `dataclasses.replace` keep it (`replace`
    adds what it changes away from the default). Passwords appear neither in `repr` nor in `str`.
    """

    # False: the job stands alone and touches no database.
    enabled: bool = True
    host: str = "localhost"
    port: int = 5432
    dbname: str = "jobsync"
    user: str = "postgres"
    password: str = "postgres"  # noqa: S105 - the documented default of a database on a laptop, no secret
    # A connection string or URL; it wins over the five above.
    dsn: str | None = None
    # Prefix of all tables; letters count in lower case, as PostgreSQL folds them.
    appname: str = "sync_"
    # The whole cluster must agree on this one and on `hash_function`.
    total_tokens: int = 10_000
    # Entering waits until that many nodes live.
    minimum_nodes: int = 1
    heartbeat_interval_sec: float = 5
    # A node that was silent for so long is dead; above twice the interval.
    heartbeat_timeout_sec: float = 15
    rebalance_check_interval_sec: float = 30
    # The longest interval at which observers look for silent nodes.
    dead_node_check_interval_sec: float = 10
    # The longest that a missed notification goes unnoticed: in a node's first five minutes, and later.
    token_refresh_initial_interval_sec: float = 5
    token_refresh_steady_interval_sec: float = 30
    # False: locks are stored, but the deal of tokens ignores them.
    locks_enabled: bool = True
    # How long a leader waits for another one that is writing a plan.
    leader_lock_timeout_sec: float = 30
    # A node whose last reply from the database is older than this is not healthy.
    health_check_interval_sec: float = 30
    # The longest that entering waits for tokens.
    token_distribution_timeout_sec: float = 60
    hash_function: str = "double_sha256"
    # How long a hand-over waits for callbacks and task bodies; None: see `handover_sec`.
    handover_timeout_sec: float | None = None
    # The fast detection of death; None: off.
    session_lease_sec: float | None = 0.6
    # A direct connection for the node's own session, where the main one goes through a pooler.
    session_dsn: str | None = None
    claim_retention_days: float | None = 7
    audit_retention_days: float | None = None
    rebalance_retention_days: float | None = 30
    dead_node_retention_days: float | None = 1
    # True: spans for OpenTelemetry; see `jobsync.api.tracing`.
    tracing: bool = False
    # Only `dataclasses.replace` passes it on; it is no setting.
    _given: InitVar[frozenset[str] | None] = None

    def __new__(cls, **given: Any) -> Self:  # noqa: D102 - it only takes note; what is given, __init__ says
        self = super().__new__(cls)
        names = frozenset(given) - {"_given"}
        before: frozenset[str] | None = given.get("_given")
        if before is not None:
            # `replace` passes every field: those count that were given before, or have left the default.
            names = frozenset(name for name in names if name in before or given[name] != getattr(cls, name, None))
        object.__setattr__(self, "_given", names)
        return self

    def __post_init__(self, _given: frozenset[str] | None) -> None:
        for name in RULES:
            check_setting(name, getattr(self, name))
        interval_sec, timeout_sec = self.heartbeat_interval_sec, self.heartbeat_timeout_sec
        lease_sec = self.session_lease_sec
        if not timeout_sec > 2 * interval_sec:
            raise InvalidSettings(
                f"heartbeat_timeout_sec={timeout_sec:g} is refused: it must be above twice "
                f"heartbeat_interval_sec={interval_sec:g}, or one late beat makes a living node look dead; "
                f"give {3 * interval_sec:g} or more, or a shorter interval"
            )
        if lease_sec is not None and lease_sec >= timeout_sec:
            raise InvalidSettings(
                f"session_lease_sec={lease_sec:g} is refused: it must be below heartbeat_timeout_sec="
                f"{timeout_sec:g}, which it is there to beat; give a shorter one, or None for none"
            )

    @property
    def given(self) -> frozenset[str]:
        """The names of the fields that were given, those equal to their default included."""
        names: frozenset[str] = vars(self)["_given"]
        return names

    def given_values(self) -> dict[str, object]:
        """Give the fields that were given with their values: a layer for `merged`."""
        return {name: getattr(self, name) for name in RULES if name in self.given}

    @classmethod
    def merged(cls, *layers: Mapping[str, object]) -> Self:
        """Merge layers of given values field by field: the first layer that gives a field decides it.

        What no layer gives has its default. `given` of the result is all that any layer gives.
        """
        union: dict[str, Any] = {}
        for layer in layers:
            for name, value in layer.items():
                check_setting(name, value)
                union.setdefault(name, value)
        return cls(**union)

    @property
    def prefix(self) -> str:
        """The prefix of all tables as PostgreSQL stores it: unquoted names are folded to lower case."""
        return self.appname.lower()

    @property
    def handover_sec(self) -> float:
        """How long a hand-over waits: as given, else the smaller of 10 and the heartbeat timeout less 1."""
        if self.handover_timeout_sec is not None:
            return self.handover_timeout_sec
        return max(0.1, min(10.0, self.heartbeat_timeout_sec - 1))

    @property
    def secrets(self) -> frozenset[str]:
        """The passwords in these settings, for `redact`; the documented default is no secret."""
        own = {self.password} - {Settings.password, ""}
        texts = (self.dsn, self.session_dsn, self.host, self.dbname, self.user)
        return frozenset(own).union(*(passwords_in(text) for text in texts if text))

    recommended_tokens = staticmethod(recommended_tokens)

    def doubts(self) -> tuple[str, ...]:
        """List in sentences what is accepted but doubtful, for warnings; the defaults have none."""
        return tuple(_doubts(self))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={rule.shown(getattr(self, name))}" for name, rule in RULES.items() if name in self.given
        )
        return f"{type(self).__name__}({shown})"


def _public_signature() -> Signature:
    parameters = signature(Settings.__init__).parameters
    return Signature([each for name, each in parameters.items() if name not in {"self", "_given"}])


# Without it, help() and editors would show the signature of __new__: (**given).
Settings.__signature__ = _public_signature()  # type: ignore[attr-defined]


def _doubts(settings: Settings) -> Iterator[str]:
    interval_sec, timeout_sec = settings.heartbeat_interval_sec, settings.heartbeat_timeout_sec
    lease_sec, health_sec = settings.session_lease_sec, settings.health_check_interval_sec
    if interval_sec > timeout_sec / 3 and not math.isclose(interval_sec, timeout_sec / 3):
        yield (
            f"heartbeat_interval_sec={interval_sec:g} is above a third of heartbeat_timeout_sec="
            f"{timeout_sec:g}: two beats that are late or lost end the lease, and the node's tokens move"
        )
    if settings.handover_sec >= timeout_sec:
        yield (
            f"handover_timeout_sec={settings.handover_sec:g} is not below heartbeat_timeout_sec="
            f"{timeout_sec:g}: a callback that hangs delays a change for longer than a death would"
        )
    if lease_sec is not None and lease_sec > timeout_sec / 2:
        yield (
            f"session_lease_sec={lease_sec:g} is above half of heartbeat_timeout_sec={timeout_sec:g}: "
            "the fast detection of death is hardly faster than the slow one"
        )
    if settings.token_distribution_timeout_sec < timeout_sec:
        yield (
            f"token_distribution_timeout_sec={settings.token_distribution_timeout_sec:g} is below "
            f"heartbeat_timeout_sec={timeout_sec:g}: entering may give up before the dead's tokens are free"
        )
    if settings.dead_node_check_interval_sec > timeout_sec:
        yield (
            f"dead_node_check_interval_sec={settings.dead_node_check_interval_sec:g} is above "
            f"heartbeat_timeout_sec={timeout_sec:g}: a death may be noticed that much later than it could be"
        )
    if lease_sec is None and health_sec <= interval_sec:
        yield (
            f"health_check_interval_sec={health_sec:g} is not above heartbeat_interval_sec={interval_sec:g}: "
            "a sound node looks unhealthy between two beats"
        )
    outranked = [name for name in ("host", "port", "dbname", "user", "password") if name in settings.given]
    if settings.dsn is not None and outranked:
        yield f"dsn is given and wins: {', '.join(outranked)} have no effect"


# --- the environment -----------------------------------------------------------------------------

VARIABLES: Final[Mapping[str, str]] = {
    "SYNC_SQL_HOST": "host",
    "SYNC_SQL_PORT": "port",
    "SYNC_SQL_DATABASE": "dbname",
    "SYNC_SQL_USERNAME": "user",
    "SYNC_SQL_PASSWORD": "password",
    "SYNC_SQL_APPNAME": "appname",
    "SYNC_DSN": "dsn",
    "SYNC_SESSION_DSN": "session_dsn",
    "SYNC_COORDINATION_ENABLED": "enabled",
    "SYNC_TOTAL_TOKENS": "total_tokens",
    "SYNC_MINIMUM_NODES": "minimum_nodes",
    "SYNC_HEARTBEAT_INTERVAL": "heartbeat_interval_sec",
    "SYNC_HEARTBEAT_TIMEOUT": "heartbeat_timeout_sec",
    "SYNC_REBALANCE_INTERVAL": "rebalance_check_interval_sec",
    "SYNC_DEAD_NODE_INTERVAL": "dead_node_check_interval_sec",
    "SYNC_TOKEN_REFRESH_INITIAL": "token_refresh_initial_interval_sec",
    "SYNC_TOKEN_REFRESH_STEADY": "token_refresh_steady_interval_sec",
    "SYNC_HASH_FUNCTION": "hash_function",
    "SYNC_TRACING": "tracing",
}


def settings_from_variables(environ: Mapping[str, str]) -> dict[str, object]:
    """Read the fields that environment variables give: those that are set and not empty.

    Raises `InvalidSettings` that names the variable. How the fields go together is checked when a `Settings`
    is made of them.
    """
    return {
        name: setting_from_text(name, environ[variable], called=variable)
        for variable, name in VARIABLES.items()
        if environ.get(variable)
    }


# --- the numbers of the protocol -----------------------------------------------------------------

# The bound on the relative drift between any two clocks: NTP slews by at most half of it.
_DRIFT: Final = 0.001
# What an observer's own clock reads may be late by.
_SLACK_SEC: Final = 0.02
_FIRST_MINUTES_SEC: Final = 300


def observer_wait_sec(lease_sec: float) -> float:
    """Give how long an observer must have seen no renewal before a lease of `lease_sec` is over for certain.

    The holder counts the lease from t_send, just before it sent the renewal; the observer starts its wait at
    t_observed, after it read the renewal; and t_send <= t_commit <= t_observed, whatever any clock of the
    database says. With every clock's rate within 1 +- rho, the holder's lease is over after at most
    lease / (1 - rho) of true time, and a wait of w is over after at least w / (1 + rho). So
    w = lease * (1 + rho) / (1 - rho) suffices, plus eps for the scheduling of the observer's own clock reads.
    Here rho = 0.001 and eps = 20 ms: 0.6 s makes 0.621 s, 14.5 s makes 14.549 s.
    """
    return lease_sec * (1 + _DRIFT) / (1 - _DRIFT) + _SLACK_SEC


def session_lease_for(settings: Settings, round_trip_sec: float) -> float | None:
    """Give the session lease for a database of such round trips (the best of a few, in seconds); None: off.

    A lease of fewer than ten round trips is raised to twenty-five of them, so 80 ms make 2 s. A node pings at
    a third of its lease: below ten round trips one slow reply ends the lease, while at twenty-five a ping and
    its repetition may each take eight times the usual. The two factors differ so that a figure which was
    raised is far from the limit. A lease that would have to be above half of the heartbeat timeout gains too
    little and is switched off: the row lease alone decides then.
    """
    if not (isinstance(round_trip_sec, int | float) and 0 <= round_trip_sec < math.inf):
        raise InvalidArgument(f"round_trip_sec={round_trip_sec!r} is refused: give a number of seconds, 0 or more")
    lease_sec = settings.session_lease_sec
    if lease_sec is None or lease_sec >= 10 * round_trip_sec:
        return lease_sec
    raised_sec = 25 * round_trip_sec
    return raised_sec if raised_sec <= settings.heartbeat_timeout_sec / 2 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The durations that one node runs on, in seconds, drawn from its settings.

    row_lease_sec           how long an acknowledged beat lets the node believe in its tokens
    session_lease_sec       the same for a ping on its own session; None: no session lease
    beat_initial_sec, beat_steady_sec   see `beat_every_sec`
    ping_every_sec          a third of the session lease; infinite without one
    watch_every_sec         how often observers look at the sessions of others
    handover_sec            how long a hand-over waits for callbacks and task bodies
    operation_deadline_sec  when an operation on the lease connection is given up and the connection with it
    """

    row_lease_sec: float
    session_lease_sec: float | None
    beat_initial_sec: float
    beat_steady_sec: float
    ping_every_sec: float
    watch_every_sec: float
    handover_sec: float
    operation_deadline_sec: float

    @classmethod
    def of(cls, settings: Settings, *, session_lease_sec: float | None) -> Self:
        """Draw the durations from settings and from the session lease in force (see `session_lease_for`).

        The row lease is the heartbeat timeout less a margin (a twentieth of it, at most half a second), so
        that an observer's longer wait still ends within a timeout of 0.5 to 200 s.
        """
        timeout_sec = settings.heartbeat_timeout_sec
        row_lease_sec = timeout_sec - min(0.5, timeout_sec / 20)
        look_sec = settings.dead_node_check_interval_sec
        beat_sec = min(settings.heartbeat_interval_sec, look_sec)
        off = session_lease_sec is None
        lease_sec = math.inf if session_lease_sec is None else session_lease_sec
        return cls(
            row_lease_sec=row_lease_sec,
            session_lease_sec=session_lease_sec,
            beat_initial_sec=min(beat_sec, settings.token_refresh_initial_interval_sec),
            beat_steady_sec=min(beat_sec, settings.token_refresh_steady_interval_sec),
            ping_every_sec=lease_sec / 3,
            watch_every_sec=min(1.0 if off else lease_sec / 4, look_sec),
            handover_sec=settings.handover_sec,
            operation_deadline_sec=row_lease_sec / 3 if off else lease_sec,
        )

    def beat_every_sec(self, age_sec: float) -> float:
        """Give the interval of beats of a node of this age: another one in its first five minutes."""
        return self.beat_initial_sec if age_sec < _FIRST_MINUTES_SEC else self.beat_steady_sec
