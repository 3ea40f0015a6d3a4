"""Where settings come from: `CoordinationConfig`, further sources in their order, the environment, the defaults.

Model: each source is a layer, a mapping of the fields that it gives. Layers are merged field by field, and
the first that gives a field decides it; what nobody gives has its default. The process's environment is read when
asked, not when imported.

Authoritative: `resolve`. One departure from field by field: a layer that names a server (`host` or `dbname`)
and gives no `dsn` hides the `dsn` of the layers below it. A DSN wins over the five connection fields, so
otherwise a `SYNC_DSN` left in the environment would silently outrank the server that the code names.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self, TypeAlias

from jobsync.core.errors import InvalidSettings
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
"""The default of `coordination_config`: nothing was passed; the environment decides."""


@dataclass(frozen=True, slots=True)
class SettingsLayers:
    """What several sources give, each as a mapping of fields to values; the first that gives a field decides it."""

    layers: tuple[Mapping[str, object], ...] = field(repr=False)


SettingsSource: TypeAlias = Settings | SettingsLayers | Unset | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings of a job, and whether it is a node of a fleet with them or stands alone."""

    settings: Settings
    coordinated: bool
    configured: bool = True


def resolve(given: SettingsSource, environ: Mapping[str, str]) -> Resolved:
    """Settle the settings of a job: field by field what was given in code, then the environment, then the defaults.

    A job stands alone when `given` is None, when `enabled` is False after the merge, or when nothing at all was
    configured, neither in code nor by a `SYNC_` variable. Raises `InvalidSettings`, naming the source of the value.
    """
    if given is None:
        return Resolved(Settings(), coordinated=False)
    from_variables = settings_from_variables(environ)
    if given is FROM_ENVIRONMENT and not from_variables.keys() - {"tracing"}:  # Which names no database.
        return Resolved(Settings.merged(from_variables), coordinated=False, configured=False)
    settings = Settings.merged(*_without_outranked_dsn([*layers_given(given), from_variables]))
    return Resolved(settings, settings.enabled)


def layers_given(given: SettingsSource) -> tuple[Mapping[str, object], ...]:
    """Give the layers of what was passed as `coordination_config`; raise `InvalidSettings` for what is no such thing.

    The refusal does not quote what was passed: a connection string in its place may hold a password.
    """
    match given:
        case Settings():
            return (given.given_values(),)
        case SettingsLayers():
            return given.layers
        case Unset() | None:
            return ()
    raise InvalidSettings(
        f"coordination_config is a {type(given).__name__}: pass a CoordinationConfig, or None for a job that stands "
        "alone"
    )


def _without_outranked_dsn(layers: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    kept: list[dict[str, object]] = []
    hidden = False
    for layer in layers:
        kept.append({name: value for name, value in layer.items() if not (hidden and name == "dsn")})
        hidden = hidden or "host" in layer or "dbname" in layer
    return kept
