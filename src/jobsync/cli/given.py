"""The settings that a command works with, and how it hands them to processes of its own.

They travel in the environment, not in the arguments, which every user of the machine can read.
"""

import os
from collections.abc import Mapping

from jobsync.api.config import CoordinationConfig

# The settings that a worker takes from its environment; see `CoordinationConfig.from_env`.
_VARIABLES = {
    "dsn": "SYNC_DSN",
    "appname": "SYNC_SQL_APPNAME",
    "total_tokens": "SYNC_TOTAL_TOKENS",
    "minimum_nodes": "SYNC_MINIMUM_NODES",
    "heartbeat_interval_sec": "SYNC_HEARTBEAT_INTERVAL",
    "heartbeat_timeout_sec": "SYNC_HEARTBEAT_TIMEOUT",
    "hash_function": "SYNC_HASH_FUNCTION",
}


def worker_environment(options: Mapping[str, object]) -> dict[str, str]:
    """Give this process's environment with the settings that were given as options in place of its own."""
    chosen = {_VARIABLES[name]: str(value) for name, value in options.items() if value is not None}
    return {**os.environ, **chosen}


def config_of(options: Mapping[str, object]) -> CoordinationConfig:
    """Give the settings that a command works with: its options, then the environment, then the defaults."""
    given = {name: value for name, value in options.items() if value is not None}
    return CoordinationConfig.merged(given, CoordinationConfig.from_env().given_values())
