"""Since when tokens are on their way: by the history, whatever was planned meanwhile."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from jobsync.api import moving
from jobsync.api.cluster import migrate
from jobsync.api.fleet_view import FleetView, open_reader
from tests.api.jobs import settings
from tests.cli.conftest import TWO_NODES

# alpha holds [0,50) as planned long ago, and beta [50,80); nobody has [80,100). [0,10) were given to beta an hour ago
# and to gamma after that, and alpha has them still; [20,30) went to beta and came back before they were given again.
STUCK = """
delete from t_grant where node = 'beta';
insert into t_grant values (12, 'beta', 2, '{[50,80)}', now());
insert into t_handover (tokens, from_node, uncovered_at)
values ('{[80,90)}', 'beta', now() - interval '20 s'), ('{[90,100)}', 'beta', now() - interval '3 min');
update t_target set tokens = '{[-1,0),[10,20),[30,50)}' where node = 'alpha';
update t_target set tokens = '{[20,30),[50,100)}' where node = 'beta';
insert into t_target values ('gamma', '{[0,10)}', 7);
insert into t_rebalance (triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved,
                         duration_ms, plan_version, moves)
select now() - m.ago::interval, 'join', 'alpha', 2, 3, 10, 3, 2, m.moves::jsonb
from (values ('180 min', '[{"from": "alpha", "to": "beta", "tokens": "{[20,30)}"}]'),
             ('150 min', '[{"from": "beta", "to": "alpha", "tokens": "{[20,30)}"}]'),
             ('60 min', '[{"from": "alpha", "to": "beta", "tokens": "{[0,10)}"}]'),
             ('30 min', '[{"from": "alpha", "to": "beta", "tokens": "{[20,25)}"},
                         {"from": null, "to": "beta", "tokens": "{[80,100)}"}]'),
             ('10 min', '[{"from": "beta", "to": "gamma", "tokens": "{[0,10)}"}]'),
             ('5 min', '[{"from": "alpha", "to": "beta", "tokens": "{[25,30)}"}]')) m (ago, moves)
"""


@pytest.fixture
def stuck(server_dsn: str, prefix: str) -> Any:
    """Give a way to look at a fleet in which tokens do not arrive."""
    config = settings(server_dsn, prefix)
    migrate(config)
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute((TWO_NODES + STUCK).replace(" t_", f" {prefix}").encode())

    def look() -> FleetView:
        with open_reader(config) as reader:
            return reader.read()

    return look


def ages(view: FleetView) -> dict[tuple[str | None, str | None], tuple[float | None, bool]]:
    """Give the age of each move in minutes, and whether it is older."""
    found: dict[tuple[str | None, str | None], tuple[float | None, bool]] = {}
    for move in view.moves:
        passed = None if move.since is None else round((view.read_at - move.since) / timedelta(minutes=1))
        found[move.source, move.target] = passed, move.is_older
    return found


def test_a_stuck_hand_over_does_not_get_younger_with_each_distribution(stuck: Any) -> None:
    assert ages(stuck()) == {
        ("alpha", "gamma"): (60, False),  # Since the plan took them from alpha, for whomever.
        ("alpha", "beta"): (30, False),  # They had come back in between; of two parts the older one counts.
        (None, "beta"): (3, False),  # Since they have no owner.
    }


def test_what_is_older_than_the_distributions_that_are_looked_at_is_told_to_be(
    stuck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "LATEST", 2)
    assert ages(stuck()) == {("alpha", "gamma"): (10, True), ("alpha", "beta"): (10, True), (None, "beta"): (3, False)}
    monkeypatch.setattr(moving, "MOST_DATED", 1)
    assert list(ages(stuck()).values())[1:] == [(None, False)] * 2
