import torch
import torch.nn.functional as F

from t2v.models.tiles import blend_tiles, tile_starts


def test_tiles_cover_everything_and_overlap() -> None:
    for size in range(16, 90):
        starts = tile_starts(size, 16, 4)
        ends = [start + 16 for start in starts]
        assert starts[0] == 0 and ends[-1] == size
        assert all(end - start >= 3 for start, end in zip(starts[1:], ends, strict=False))
    assert tile_starts(10, 16, 4) == [0]
    assert all(start % 8 == 0 for start in tile_starts(200, 64, 16, 8))


def test_what_looks_at_single_places_is_the_same_in_tiles() -> None:
    x = torch.randn(2, 3, 5, 40, 56, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blend_tiles(torch.sin, x, 16), x.sin())
    seen = []
    blend_tiles(lambda tile: seen.append(tile.shape[-2:]) or tile, x, 16)
    assert set(seen) == {(16, 16)} and len(seen) == 3 * 5


def test_networks_that_enlarge_and_shrink() -> None:
    x = torch.randn(1, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    twice = blend_tiles(lambda tile: tile.repeat_interleave(2, -1).repeat_interleave(2, -2), x, 16, factor=2)
    torch.testing.assert_close(twice, x.repeat_interleave(2, -1).repeat_interleave(2, -2))
    small = blend_tiles(lambda tile: F.avg_pool2d(tile, 8), x, 32, shrink=8)
    torch.testing.assert_close(small, F.avg_pool2d(x, 8))


def test_seams_are_feathered() -> None:
    """Tiles that disagree by a constant each turn into ramps without steps."""
    levels = iter(range(100))
    out = blend_tiles(lambda tile: torch.full_like(tile, next(levels)), torch.zeros(1, 1, 16, 52), 16)
    assert out.diff(dim=-1).abs().max() <= 0.5 and out[..., 0].unique().tolist() == [0.0]
