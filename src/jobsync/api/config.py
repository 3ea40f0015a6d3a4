"""Where settings come from: `CoordinationConfig`, a config object, the environment, the defaults.

Model: each source is a layer, a mapping of the fields that it gives. Layers are merged field by field, and
the first that gives a field decides it; what nobody gives has its default. This module is the only one of the
package that reads the process's environment, and it reads it when asked, not when imported.

Authoritative: `resolve`. One departure from field by field: a layer that names a server (`host` or `dbname`)
and gives no `dsn` hides the `dsn` of the layers below it. A DSN wins over the five connection fields, so
otherwise a `SYNC_DSN` left in the environment would silently outrank the server that the code names.

Not promised: that a misspelled attribute of a config object is noticed; such objects hold other things too.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

from jobsync.core.errors import InvalidSettings
from jobsync.core.setting_rules import RULES, accepts_none, check_setting, setting_from_text
from jobsync.core.settings import Settings, settings_from_variables


class CoordinationConfig(Settings):
    """The settings of a cluster and a node of it, given in code; see `Settings` for the fields.

    Fields that are not given here come from the config object, the environment, or the defaults, in this
    order.
    """

    @classmethod
    def from_env(cls) -> Self:
        """Take the settings that the environment gives (`SYNC_SQL_HOST`, `SYNC_HEARTBEAT_INTERVAL`, ...).

        Variables that are not set, or empty, leave their fields to the defaults. Raises `InvalidSettings`
        that names the variable.
        """
        return cls.merged(settings_from_variables(os.environ))


class Unset(Enum):
    """The type of `FROM_ENVIRONMENT`: None, which stands alone, cannot also mean that nothing was passed."""

    FROM_ENVIRONMENT = "from the config object and the environment"


FROM_ENVIRONMENT: Final = Unset.FROM_ENVIRONMENT
"""The default of `coordination_config`: nothing was passed; config object and environment decide."""


def resolve(
    coordination_config: Settings | Unset | None, config: object, environ: Mapping[str, str]
) -> Settings | None:
    """Settle the settings of a job; None: it stands alone.

    The order, field by field: what was given in `coordination_config`, then `config.sync.coordination`, then
    `config.sync.sql`, then the environment, then the defaults. A job stands alone when `coordination_config`
    is None, when `enabled` is False after the merge, or when nothing at all was configured: no
    `coordination_config`, no config object, no `SYNC_` variable. Text in a config object is read as in the
    environment: '5432' is a port, and what is empty is not given. Raises `InvalidSettings`, naming the source
    of the value.
    """
    if coordination_config is None:
        return None
    own: list[Mapping[str, object]] = []
    if isinstance(coordination_config, Settings):
        own = [coordination_config.given_values()]
    elif coordination_config is not FROM_ENVIRONMENT:
        raise InvalidSettings(
            f"coordination_config is a {type(coordination_config).__name__}: pass a CoordinationConfig, "
            "or None for a job that stands alone"
        )
    from_variables = settings_from_variables(environ)
    if coordination_config is FROM_ENVIRONMENT and config is None and not from_variables:
        return None
    layers = [*own, *_layers_of(config), from_variables]
    settings = Settings.merged(*_without_outranked_dsn(layers))
    return settings if settings.enabled else None


def _without_outranked_dsn(layers: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    kept: list[dict[str, object]] = []
    hidden = False
    for layer in layers:
        kept.append({name: value for name, value in layer.items() if not (hidden and name == "dsn")})
        hidden = hidden or "host" in layer or "dbname" in layer
    return kept


# --- config objects ------------------------------------------------------------------------------

_SQL_FIELDS: Final = ("host", "port", "dbname", "user", "password", "appname", "dsn", "session_dsn")
_OTHER_NAMES: Final = {"dbname": "database", "user": "username"}


def _layers_of(config: object) -> list[Mapping[str, object]]:
    if config is None:
        return []
    if isinstance(config, Settings):
        return [config.given_values()]
    if isinstance(config, EnvironmentConfig):
        return [settings_from_variables(config.environ)]
    sync = _attribute(config, "sync")
    coordination = _layer_of(_attribute(sync, "coordination"), tuple(RULES), "config.sync.coordination")
    return [coordination, _layer_of(_attribute(sync, "sql"), _SQL_FIELDS, "config.sync.sql")]


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


def environment_config(environ: Mapping[str, str] | None = None) -> EnvironmentConfig:
    """Give the config object that is importable as `jobsync.config`; it reads the environment when asked."""
    return EnvironmentConfig(os.environ if environ is None else environ)
