"""A queue of pictures: every thumbnail once, whoever is killed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.thumbnails.picture import Picture, read_ppm, shrink, write_ppm
from examples.thumbnails.play import judge, make_pictures
from tests.examples.plays import broken, play

Row = tuple[str, bytes]
WANTED = {"a.ppm": b"A", "b.ppm": b"B"}
COUNTS = {"pending": 0, "processing": 0, "retry": 0, "done": 2, "failed": 0, "cancelled": 0}


def holds(rows: list[Row], counts: dict[str, int] = COUNTS, crashed: int = 1, tries: int = 2) -> list[bool]:
    return [check.holds for check in judge(WANTED, rows, counts, crashed, tries)]


@pytest.mark.chaos
def test_the_example_holds(server_dsn: str) -> None:
    status, out = play("thumbnails", server_dsn)
    assert (status, broken(out)) == (0, []), out
    assert "200 of 200" in out
    assert "worker-2 is killed" in out


def test_the_verdict_holds_for_what_is_asked_for() -> None:
    assert holds(sorted(WANTED.items())) == [True] * 5


@pytest.mark.parametrize(
    ("forge", "convicted"),
    [
        (lambda rows: rows[:-1], (0,)),
        (lambda rows: [*rows, rows[0]], (0,)),
        (lambda rows: [rows[0], ("b.ppm", b"?")], (1,)),
        (lambda rows: [*rows, ("c.ppm", b"C")], (0, 1)),
        (lambda rows: [], (0, 1)),
    ],
)
def test_the_verdict_convicts_lost_repeated_and_wrong_thumbnails(
    forge: Callable[[list[Row]], list[Row]], convicted: tuple[int, ...]
) -> None:
    found = holds(forge(sorted(WANTED.items())))
    assert tuple(number for number, held in enumerate(found) if not held) == convicted


def test_the_verdict_convicts_jobs_left_over_and_a_kill_that_hit_nothing() -> None:
    rows = sorted(WANTED.items())
    assert holds(rows, counts=COUNTS | {"done": 1, "failed": 1}) == [True, True, False, True, True]
    assert holds(rows, crashed=0) == [True, True, True, False, True]
    assert holds(rows, tries=1) == [True, True, True, True, False]


def test_a_thumbnail_is_known_before_it_is_made(tmp_path: Path) -> None:
    thumbnails = make_pictures(tmp_path / "in", 2)
    assert len(set(thumbnails.values())) == 2
    for name, thumbnail in thumbnails.items():
        assert write_ppm(shrink(read_ppm((tmp_path / "in" / name).read_bytes()), 8)) == thumbnail


def test_a_pixel_is_the_mean_of_its_square() -> None:
    assert shrink(Picture(2, 2, bytes([0, 9, 1] * 2 + [10, 1, 1] * 2)), 2) == Picture(1, 1, bytes([5, 5, 1]))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="no binary PPM"):
        read_ppm(b"JFIF")
