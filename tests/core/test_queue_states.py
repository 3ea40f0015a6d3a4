"""The table of the states of a job."""

from jobsync.core.queue import states
from jobsync.core.queue.stored import ENDS, STATUSES


def test_the_table_knows_every_status_and_no_other() -> None:
    named = {each.before for each in states.TRANSITIONS} | {each.after for each in states.TRANSITIONS}
    assert named - {states.NOWHERE} == set(STATUSES)
    assert states.ENDED == ENDS


def test_only_what_is_taken_runs_and_every_end_is_reached_from_there() -> None:
    assert {each.before for each in states.TRANSITIONS if each.after == states.PROCESSING} == set(states.WAITING)
    assert {each.after for each in states.TRANSITIONS if each.before == states.PROCESSING} >= set(states.ENDED)


def test_nothing_is_listed_twice() -> None:
    assert len({(each.before, each.after, each.cause) for each in states.TRANSITIONS}) == len(states.TRANSITIONS)


def test_the_diagram_has_one_arrow_a_pair() -> None:
    lines = states.as_mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    processing --> done: handler returned" in lines
    assert len(lines) == 1 + len({(each.before, each.after) for each in states.TRANSITIONS})
    assert states.causes("processing", "cancelled") == ("handler raised Cancel", "cancelled")
    assert states.causes("done", "processing") == ()
