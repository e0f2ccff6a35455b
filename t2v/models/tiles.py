"""Networks on pictures that are too large for one pass: overlapping tiles, blended where they overlap."""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor


def tile_starts(size: int, tile_size: int, overlap: int, multiple: int = 1) -> list[int]:
    """First positions, multiples of `multiple`, of equal tiles that cover `size`; neighbours share about `overlap`."""
    if size <= tile_size:
        return [0]
    count = math.ceil((size - overlap) / (tile_size - overlap))
    return [round(i * (size - tile_size) / (count - 1) / multiple) * multiple for i in range(count)]


def blend_tiles(
    network: Callable[[Tensor], Tensor], x: Tensor, tile_size: int, factor: int = 1, shrink: int = 1
) -> Tensor:
    """Apply a network to overlapping square tiles of `(..., H, W)` and blend them linearly over a quarter of a tile.

    Away from the seams this differs from one pass only as far as GroupNorm and attention see a tile, not the picture.

    Args:
        factor, shrink: the network's output is `factor` times as high and wide as its input, or `1 / shrink` times;
            `tile_size`, H and W are multiples of `shrink`.
    """

    def scaled(place: int) -> int:
        return place * factor // shrink

    height, width = x.shape[-2:]
    overlap = tile_size // 4
    tops, lefts = (tile_starts(size, tile_size, overlap, shrink) for size in (height, width))
    rows, columns = (scaled(min(size, tile_size)) for size in (height, width))
    weight = _ramp(rows, scaled(overlap), x)[:, None] * _ramp(columns, scaled(overlap), x)
    total: Tensor | None = None
    norm = weight.new_zeros(scaled(height), scaled(width))
    for top, left in product(tops, lefts):
        tile = network(x[..., top : top + tile_size, left : left + tile_size])
        if total is None:
            total = weight.new_zeros(*tile.shape[:-2], *norm.shape)
        down, right = scaled(top), scaled(left)
        total[..., down : down + rows, right : right + columns] += tile * weight
        norm[down : down + rows, right : right + columns] += weight
    assert total is not None
    return (total / norm).to(tile.dtype)


def _ramp(size: int, overlap: int, x: Tensor) -> Tensor:
    """Blending weights of one tile along one axis: rising over `overlap`, 1, falling; never zero."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    distance = torch.arange(size, device=x.device, dtype=dtype) + 0.5
    return (torch.minimum(distance, distance.flip(0)) / max(overlap, 1)).clamp(max=1.0)
