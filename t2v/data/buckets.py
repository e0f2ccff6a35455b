"""Sizes that clips of other shapes than the square are trained at, so that little of them is cut away."""

import math
from collections.abc import Sequence

Size = tuple[int, int]  # (height, width)

_MAX_ASPECT = 2.0


def standard_buckets(resolution: int, multiple: int) -> list[Size]:
    """Sizes of about `resolution` squared pixels, from twice as wide as high to twice as high as wide.

    Args:
        multiple: that both sides are divisible by.
    """
    widths = range(multiple, int(resolution * _MAX_ASPECT**0.5) + multiple, multiple)
    sizes = [(max(1, round(resolution**2 / width / multiple)) * multiple, width) for width in widths]
    landscapes = [size for size in sizes if 1 <= size[1] / size[0] <= _MAX_ASPECT]
    return sorted({*landscapes, *((width, height) for height, width in landscapes)})


def nearest_bucket(aspect: float, buckets: Sequence[Size]) -> int:
    """The place of the bucket that loses least of a picture of this width / height."""
    return min(range(len(buckets)), key=lambda i: abs(math.log(aspect * buckets[i][0] / buckets[i][1])))
