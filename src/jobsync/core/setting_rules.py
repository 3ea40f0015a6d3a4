"""What each setting may be: one rule a field, in words, as a check, and as read from text.

Model: a table, `RULES`, from the name of a field to what its value may be. It knows fields one by one; how
they go together is the business of `Settings`, which is checked against this table whenever one is built.

Authoritative: the table. Its order is the order in which settings are printed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from jobsync.core.errors import MASK, InvalidSettings, shown_conninfo, shown_value
from jobsync.core.hashing import HASH_FUNCTIONS

MAX_TOKENS: Final = 1_000_000
# In milliseconds this still fits PostgreSQL's lock_timeout, a 32-bit number; and 1 ms is not "no timeout".
_LONGEST_SEC: Final = 1_000_000
_SHORTEST_SEC: Final = 0.001


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may be: in words, as a check, and as read from text; `shown` gives what may be printed."""

    says: str
    holds: Callable[[Any], bool]
    parse: Callable[[str], object] = str
    shown: Callable[[Any], str] = repr
    takes_none: bool = False


def _whole(low: int, high: int) -> Rule:
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda value: type(value) is int and low <= value <= high,
        int,
    )


def _number(low: float, high: float, unit: str) -> Rule:
    def holds(value: object) -> bool:
        # A comparison with NaN is false, so neither NaN nor an infinity passes.
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return Rule(f"a number of {unit} from {low:,} to {high:,}", holds, float)


def _or_none(rule: Rule) -> Rule:
    def holds(value: object) -> bool:
        return value is None or rule.holds(value)

    return replace(rule, says=f"{rule.says}, or None", holds=holds, takes_none=True)


def _is_text(value: object) -> bool:
    # Half a surrogate pair is what undecodable bytes in an environment variable become.
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value)


def _is_filled_text(value: object) -> bool:
    return _is_text(value) and value != ""


def _is_prefix(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isidentifier() and len(value) <= 40


def _shown_dsn(value: object) -> str:
    if value is None:
        return "None"
    return repr(shown_conninfo(value) if isinstance(value, str) else MASK)


_TRUTH: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}

_FLAG: Final = Rule(
    "True or False (as text: true, false, 1, 0, yes, no, on, off)",
    lambda value: isinstance(value, bool),
    lambda text: _TRUTH[text.lower()],
)
_NAME: Final = Rule(
    "text that is not empty and holds no NUL",
    _is_filled_text,
    shown=lambda value: repr(shown_value(value) if isinstance(value, str) else value),
)
_PASSWORD: Final = Rule("text without NUL", _is_text, shown=lambda _: repr(MASK))
_DSN: Final = _or_none(
    Rule(
        "a libpq connection string or URL without NUL",
        _is_filled_text,
        shown=_shown_dsn,
    )
)
_SECONDS: Final = _number(_SHORTEST_SEC, _LONGEST_SEC, "seconds")
_DAYS: Final = _or_none(_number(0.001, 36_500, "days"))

RULES: Final[Mapping[str, Rule]] = {
    "enabled": _FLAG,
    "host": _NAME,
    "port": _whole(1, 65_535),
    "dbname": _NAME,
    "user": _NAME,
    "password": _PASSWORD,
    "dsn": _DSN,
    "appname": Rule(
        "a prefix for table names: at most 40 of A-Z, a-z, 0-9 and _, not beginning with a digit", _is_prefix
    ),
    "total_tokens": _whole(1, MAX_TOKENS),
    "minimum_nodes": _whole(1, 1_000_000),
    "heartbeat_interval_sec": _SECONDS,
    "heartbeat_timeout_sec": _SECONDS,
    "rebalance_check_interval_sec": _SECONDS,
    "dead_node_check_interval_sec": _SECONDS,
    "token_refresh_initial_interval_sec": _SECONDS,
    "token_refresh_steady_interval_sec": _SECONDS,
    "locks_enabled": _FLAG,
    "leader_lock_timeout_sec": _SECONDS,
    "health_check_interval_sec": _SECONDS,
    "token_distribution_timeout_sec": _SECONDS,
    "hash_function": Rule(
        f"one of {', '.join(HASH_FUNCTIONS)}",
        lambda value: isinstance(value, str) and value in HASH_FUNCTIONS,
    ),
    "handover_timeout_sec": _or_none(_SECONDS),
    "session_lease_sec": _or_none(_SECONDS),
    "session_dsn": _DSN,
    "claim_retention_days": _DAYS,
    "audit_retention_days": _DAYS,
    "rebalance_retention_days": _DAYS,
    "dead_node_retention_days": _DAYS,
    "tracing": _FLAG,
}


def check_setting(name: str, value: object, *, called: str | None = None) -> None:
    """Raise `InvalidSettings` unless a field may have this value; `called` is the name its user knows."""
    rule = RULES.get(name)
    if rule is None:
        from difflib import get_close_matches  # noqa: PLC0415 - few mistype

        near = get_close_matches(name, RULES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(RULES)}"
        raise InvalidSettings(f"there is no setting {called or name}; {hint}")
    if not rule.holds(value):
        raise _refused(name, rule.shown(value), called)


def setting_from_text(name: str, text: str, *, called: str) -> object:
    """Read a field's value from text, as environment variables give it; `called` names the source."""
    rule = RULES[name]
    try:
        value = rule.parse(text if rule.parse is str else text.strip())
    except (ValueError, KeyError):
        raise _refused(name, rule.shown(text), called) from None
    if not rule.holds(value):
        raise _refused(name, rule.shown(text), called)
    return value


def accepts_none(name: str) -> bool:
    """Tell whether None is a value of this field, and not the absence of one."""
    return RULES[name].takes_none


def _refused(name: str, shown: str, called: str | None) -> InvalidSettings:
    return InvalidSettings(
        f"{called or name}={shown:.200} is refused: it must be {RULES[name].says}; "
        "correct it, or leave it out for the default"
    )
