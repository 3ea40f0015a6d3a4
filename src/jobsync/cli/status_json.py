"""`jobsync status --json`."""

from dataclasses import asdict
from typing import Any

from jobsync.api.fleet_status import ClusterStatus
from jobsync.cli.shared import as_plain


def status_as_dict(status: ClusterStatus) -> dict[str, Any]:
    """Give all of it as JSON takes it; times are ISO 8601 texts."""
    found = asdict(status) | {
        "healthy": status.is_healthy,
        "leader": status.leader,
        "live_nodes": status.live_nodes,
        "live_tokenless": status.live_tokenless,
        "tokens_live": status.tokens_live,
        "frozen": status.frozen,
    }
    plain: dict[str, Any] = as_plain(found)
    return plain
