import torch
from torch import Tensor

from t2v.pipelines.interpolation.residual import KnownFrames, give_back, low_pass


def test_low_pass_keeps_the_mean_and_takes_detail_away() -> None:
    flat = torch.full((1, 3, 16, 20), 0.3)
    torch.testing.assert_close(low_pass(flat, 2.0), flat)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert low_pass(noise, 3.0).std() < 0.2 * noise.std()


def with_known(made: Tensor, times: list[float], pictures: Tensor, returned: Tensor) -> Tensor:
    return torch.stack(list(give_back(made, times, KnownFrames([0.0, 1.0], pictures, pictures, returned))))


def test_made_frames_take_the_colour_of_their_neighbours_and_no_detail_where_they_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    returned = torch.zeros(2, 3, 32, 32)
    levels = torch.tensor([0.1, -0.2])[:, None, None, None]
    known = levels + 0.05 * torch.randn(2, 3, 32, 32, generator=generator)
    made = torch.full((3, 3, 32, 32), 0.8)  # nothing of the neighbours
    out = with_known(made, [0.25, 0.5, 2.0], known, returned)
    torch.testing.assert_close(out.mean((1, 2, 3)) - 0.8, torch.tensor([0.025, -0.05, -0.2]), atol=5e-3, rtol=0.05)
    assert out[1].std() < 0.02  # the grain of the known frames is not copied
    torch.testing.assert_close(with_known(made, [0.25, 0.5, 2.0], known, known), made)


def test_what_stands_still_keeps_its_detail_and_what_moves_leaves_no_ghost() -> None:
    """A fine pattern stands; a bright square is at the left in the first frame and at the right in the second."""
    pattern = 0.2 * torch.randn(3, 32, 64, generator=torch.Generator().manual_seed(1))
    blurred = low_pass(pattern[None], 2.0)[0]
    known, returned = pattern.repeat(2, 1, 1, 1), blurred.repeat(2, 1, 1, 1)
    made = blurred[None].clone()
    for pictures in (known, returned):
        pictures[0, :, 8:24, 4:20] = pictures[1, :, 8:24, 44:60] = 0.9
    known[:, :, 15:17] += torch.tensor([0.3, 0.0])[:, None, None, None]  # a line in the first frame alone, lost
    made[0, :, 8:24, 24:40] = 0.9
    out = with_known(made, [0.5], known, returned)[0]
    standing = torch.ones(32, 64, dtype=torch.bool)
    standing[4:28], standing[:, :1] = False, False
    assert (out - pattern)[:, standing].abs().mean() < 0.25 * (blurred - pattern)[:, standing].abs().mean()
    assert out[:, 10:22, 26:38].std() < 0.05 and (out[:, 8:24, 44:60] - 0.9).abs().mean() > 0.7


def test_small_work_is_given_back_at_full_size() -> None:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    pictures = 0.4 * ((x + y) % 2 * 2.0 - 1)[None, None].expand(2, 3, -1, -1)  # a pattern that no small picture holds
    small = torch.zeros(2, 3, 16, 24)
    out = list(give_back(small[:1], [0.5], KnownFrames([0.0, 1.0], pictures, small, small)))
    torch.testing.assert_close(out[0], pictures[0], atol=1e-4, rtol=0)
