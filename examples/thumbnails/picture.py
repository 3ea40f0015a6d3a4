"""Pictures in the simplest format there is (binary PPM), so that the example needs no library for them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows of pixels, three bytes each."""

    width: int
    height: int
    pixels: bytes


def read_ppm(data: bytes) -> Picture:
    """Read a PPM; raise ValueError where it is none."""
    head = data.split(b"\n", 3)
    if len(head) != 4 or head[0] != b"P6":
        raise ValueError("this is no binary PPM")
    width, height = map(int, head[1].split())
    return Picture(width, height, head[3])


def write_ppm(picture: Picture) -> bytes:
    """Write a PPM."""
    return b"P6\n%d %d\n255\n" % (picture.width, picture.height) + picture.pixels


def shrink(picture: Picture, by: int) -> Picture:
    """Make a picture smaller: each pixel of the new one is the mean of `by` times `by` old ones."""
    width, height = picture.width // by, picture.height // by
    found = bytearray()
    for y in range(height):
        for x in range(width):
            for colour in range(3):
                found.append(_mean(picture, x * by, y * by, colour, by))
    return Picture(width, height, bytes(found))


def _mean(picture: Picture, left: int, top: int, colour: int, by: int) -> int:
    total = 0
    for y in range(top, top + by):
        start = (y * picture.width + left) * 3 + colour
        total += sum(picture.pixels[start : start + 3 * by : 3])
    return total // (by * by)
