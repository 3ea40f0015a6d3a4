"""What workers draw on a server that lost commits, before any node has met it."""

import pytest

from tests.postgres.queue_hands import Hands, Took
from tests.postgres.support import Fleet


@pytest.mark.parametrize("max_attempts", [3, 1], ids=["many at a time", "one by one"])
def test_the_epoch_of_a_take_that_was_lost_names_no_other_attempt(fleet: Fleet, max_attempts: int) -> None:
    """Two workers' connections are there before their nodes are: both would be told that the job is theirs."""
    old, new = (fleet.join(name).who.incarnation for name in "ab")
    hands = Hands(fleet.connect(), fleet.prefix)
    lane = hands.lane("k")
    hands.add(lane, max_attempts=max_attempts)
    before = fleet.sql("select last_value, is_called from sync_epoch")[0]

    def take(node: int) -> Took:
        return (hands.take([lane], node=node) if max_attempts > 1 else hands.take_gated([lane], node=node))[0]

    lost = take(old)
    assert hands.release([lost]) == 1
    fleet.sql("select setval('sync_epoch', $1::bigint, $2::boolean)", *before)
    fleet.fail_over()
    taken = take(new)
    assert taken.epoch > lost.epoch + 1_000_000
    assert hands.done([lost], [lost.epoch]) == {lost.id}
    assert hands.done([taken], [taken.epoch]) == set()
    assert fleet.value("select quarantined from sync_meta")


def test_a_server_that_is_known_is_met_without_a_word(fleet: Fleet) -> None:
    node = fleet.join("a").who.incarnation
    hands = Hands(fleet.connect(), fleet.prefix)
    lane = hands.lane("k")
    hands.add(lane)
    before = fleet.sql("select ctid, xmin, * from sync_meta")
    assert hands.take([lane], node=node)
    assert fleet.sql("select ctid, xmin, * from sync_meta") == before
