"""The two older forms of the API, translated into the native one; no other module knows of them.

Older code gives its settings by a config object (`config.sync.sql.host`; an object, a module or a mapping) or by the
importable `jobsync.config`, passes it after an optional environment name, reaches for a few private names, and
counts on SIGTERM to unwind its `with` block. `OlderForms` takes all of that and hands on the native form: the config
object becomes layers of settings below `coordination_config`, and the private names read the public ones.

Text in a config object is read as in the environment: '5432' is a port, and what is empty is not given.

Not promised: that a misspelled attribute of a config object is noticed; such objects hold other things too.
"""

import datetime as dt
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

from jobsync import postgres, runtime
from jobsync.api.checks import checked_flag
from jobsync.api.config import FROM_ENVIRONMENT, SettingsLayers, SettingsSource, Unset, layers_given, resolve
from jobsync.api.signals import TERMINATION
from jobsync.api.status_methods import StatusMethods
from jobsync.core.errors import CoordinationDisabled, InvalidArgument
from jobsync.core.setting_rules import RULES, accepts_none, check_setting, setting_from_text
from jobsync.core.settings import Settings, settings_from_variables
from jobsync.core.tokens import TokenSet

# --- config objects ------------------------------------------------------------------------------

_SQL_FIELDS: Final = ("host", "port", "dbname", "user", "password", "appname", "dsn", "session_dsn")
_OTHER_NAMES: Final = {"dbname": "database", "user": "username"}


class HasSync(Protocol):
    """Anything with an attribute `sync`: an object or a module."""

    @property
    def sync(self) -> Any:
        """What holds the sections `sql` and `coordination`."""


ConfigObject: TypeAlias = HasSync | SimpleNamespace | Mapping[str, Any] | Settings


def layers_of(config: object) -> tuple[Mapping[str, object], ...]:
    """Read a config object: the settings of `config.sync.coordination`, then those of `config.sync.sql`.

    A `CoordinationConfig` in its place gives what it was given. Raises `InvalidSettings`, naming the attribute.
    """
    if isinstance(config, Settings):
        return (config.given_values(),)
    if isinstance(config, EnvironmentConfig):
        return (settings_from_variables(config.environ),)
    sync = _attribute(config, "sync")
    coordination = _layer_of(_attribute(sync, "coordination"), tuple(RULES), "config.sync.coordination")
    return (coordination, _layer_of(_attribute(sync, "sql"), _SQL_FIELDS, "config.sync.sql"))


def _layer_of(section: object, names: Iterable[str], called: str) -> dict[str, object]:
    """Read the fields that a section of a config object gives, under either of their names."""
    if isinstance(section, Settings):
        return section.given_values()
    layer: dict[str, object] = {}
    for name in names:
        for key in (name, _OTHER_NAMES.get(name, name)):
            value = _attribute(section, key)
            absent = value is None and not (accepts_none(name) and _has(section, key))
            if absent or value == "":
                continue
            if isinstance(value, str):
                value = setting_from_text(name, value, called=f"{called}.{key}")
            check_setting(name, value, called=f"{called}.{key}")
            layer.setdefault(name, value)
    return layer


def _attribute(section: object, key: str) -> object:
    """Read a key of a mapping, or an attribute of anything else; None where it is missing."""
    return section.get(key) if isinstance(section, Mapping) else getattr(section, key, None)


def _has(section: object, key: str) -> bool:
    return key in section if isinstance(section, Mapping) else hasattr(section, key)


def told_apart(environment: object, config: object) -> tuple[str | None, object]:
    """Tell `(environment, config)` from the shorter `(config,)`; raise `InvalidArgument` for what is neither."""
    if environment is not None and not isinstance(environment, str):
        if config is not None:
            raise InvalidArgument(
                f"the argument before config is a {type(environment).__name__}: give the name of an environment there, "
                "or one config object alone"
            )
        environment, config = None, environment
    if isinstance(config, str | bytes | int | float | list | tuple | set | frozenset):
        raise InvalidArgument(
            f"config is a {type(config).__name__}: after the name of the environment give an object, a module or a "
            "mapping with `sync.sql` and `sync.coordination`, or a CoordinationConfig"
        )
    return environment, config


def with_config(coordination_config: Settings | Unset | None, config: object) -> SettingsSource:
    """Put a config object below what was given in code; None, which stands alone, stays None."""
    if config is None or coordination_config is None:
        return coordination_config
    return SettingsLayers((*layers_given(coordination_config), *layers_of(config)))


# --- the environment as a config object ----------------------------------------------------------


@dataclass(frozen=True, repr=False, eq=False)
class EnvironmentSection:
    """One part of the environment's config: each setting is an attribute, read when it is asked for.

    An attribute that no variable gives has its default. Read-only: what is to differ from the environment is
    passed to the job. `repr` shows what is given, without passwords.
    """

    environ: Mapping[str, str]
    names: Mapping[str, str]

    def __getattr__(self, key: str) -> Any:
        # Copying and pickling ask for names with underscores before there is anything to look them up in.
        name = None if key.startswith("_") or key in {"environ", "names"} else self.names.get(key)
        if name is None:
            raise AttributeError(f"there is no setting {key!r} here; see CoordinationConfig for those there are")
        return settings_from_variables(self.environ).get(name, getattr(Settings, name))

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self.names]

    def __repr__(self) -> str:
        given = settings_from_variables(self.environ)
        shown = {key: RULES[name].shown(given[name]) for key, name in self.names.items() if name in given}
        return f"<from the environment: {', '.join(f'{key}={value}' for key, value in shown.items())}>"


@dataclass(frozen=True, eq=False)
class EnvironmentSync:
    """The `sync` part of the environment's config."""

    coordination: EnvironmentSection
    sql: EnvironmentSection


@dataclass(frozen=True, repr=False, eq=False)
class EnvironmentConfig:
    """A config object of the usage guide's shape (`config.sync.sql.host`), read from the environment."""

    environ: Mapping[str, str]

    @property
    def sync(self) -> EnvironmentSync:
        """The two sections: `coordination` with all settings, `sql` with those of the connection."""
        sql_names = {name: name for name in _SQL_FIELDS} | {other: name for name, other in _OTHER_NAMES.items()}
        return EnvironmentSync(
            coordination=EnvironmentSection(self.environ, {name: name for name in RULES}),
            sql=EnvironmentSection(self.environ, sql_names),
        )

    def __repr__(self) -> str:
        return f"EnvironmentConfig({self.sync!r})"


config: Final = EnvironmentConfig(os.environ)
"""What `from jobsync import config` gives: the environment's settings, read when they are asked for."""


# --- the job -------------------------------------------------------------------------------------


class OlderForms(StatusMethods):
    """What older code expects of a job beyond the native form."""

    def __init__(  # noqa: PLR0913 - the keyword arguments of the contract
        self,
        node_name: str,
        environment: str | ConfigObject | None = None,
        config: ConfigObject | None = None,
        *,
        coordination_config: Settings | Unset | None = FROM_ENVIRONMENT,
        date: "dt.date | dt.datetime | str | None" = None,
        wait_on_enter: float | None = None,
        lock_provider: Callable[[Any], object] | None = None,
        clear_existing_locks: bool = False,
        on_rebalance: Callable[..., object] | None = None,
        on_tokens_added: Callable[[set[int]], object] | None = None,
        on_tokens_removed: Callable[[set[int]], object] | None = None,
        run: str | None = None,
        observer: bool = False,
        handle_signals: bool | None = None,
    ) -> None:
        label, older_config = told_apart(environment, config)
        super().__init__(
            node_name,
            label,
            coordination_config=with_config(coordination_config, older_config),
            date=date,
            wait_on_enter=wait_on_enter,
            lock_provider=lock_provider,
            clear_existing_locks=clear_existing_locks,
            on_rebalance=on_rebalance,
            on_tokens_added=on_tokens_added,
            on_tokens_removed=on_tokens_removed,
            run=run,
            observer=observer,
            handle_signals=handle_signals is not None and checked_flag("handle_signals", handle_signals),
        )
        self._config = older_config
        self._unwinds_on_term = older_config is not None and handle_signals is None
        self._own: OwnConnection | None = None
        self._own_lock = threading.RLock()  # reentrant: a signal handler may use it

    # --- SIGTERM unwinds the `with` block --------------------------------------------------------

    def __enter__(self) -> Self:
        if self._entered:
            return super().__enter__()  # It refuses.
        try:
            if self._unwinds_on_term:
                TERMINATION.begin(self)
            return super().__enter__()
        except BaseException:
            self._exit()
            raise

    @TERMINATION.waits_for
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)

    @TERMINATION.waits_for
    def _exit(self) -> None:
        try:
            super()._exit()
        finally:
            self._close_own()
            TERMINATION.end(self)

    # --- private names --------------------------------------------------------------------------

    @property
    def _cn(self) -> Any:
        """An autocommit psycopg connection of the application's own: opened at first use, closed at exit."""
        self._running()
        with self._own_lock:
            own = self._own
            if own is None or not own.is_usable:
                own = self._own = OwnConnection(self._settings_of_own())
            return own.connection

    def _settings_of_own(self) -> Settings:
        if self._settings is not None:
            return self._settings
        # A job that stands alone touches no database by itself; the application may still use its own.
        resolved = resolve(with_config(FROM_ENVIRONMENT, self._config), os.environ).settings
        if not resolved.given & {"host", "dbname", "dsn"}:
            raise CoordinationDisabled(
                f"job {self._name!r} stands alone and was given no database to connect to: name one in config.sync.sql "
                "or the environment, or open a connection of your own"
            )
        return resolved

    def _close_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own.close()

    @property
    def _tables(self) -> dict[str, str]:
        return self.tables

    @property
    def _my_tokens(self) -> TokenSet:
        return self.my_tokens

    @property
    def _token_version(self) -> int:
        return self.token_version

    @property
    def _coordination_enabled(self) -> bool:
        return self._settings is not None

    @property
    def _last_heartbeat_sent(self) -> dt.datetime | None:
        """When the database last answered a sign of life, by this machine's clock; None: not yet, or alone."""
        node = self._node
        last_reply = None if node is None or self._settings is None else node.engine.standing.last_reply
        return None if last_reply is None else dt.datetime.fromtimestamp(last_reply.wall_sec, tz=dt.UTC)


class OwnConnection:
    """One connection for the application, and the hold on the embedded server where that is meant."""

    def __init__(self, settings: Settings) -> None:
        self._pid = os.getpid()
        self._doorway = runtime.Doorway(settings)
        try:
            self.connection = postgres.connect(self._doorway.place)
        except BaseException:
            self._doorway.release()
            raise

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and this process's: a connection is not shared with a forked child."""
        return not self.connection.closed and self._pid == os.getpid()

    def close(self) -> None:
        """Close it; a child of the process that opened it leaves it alone."""
        if self._pid == os.getpid():
            with suppress(Exception):
                self.connection.close()
            self._doorway.release()
