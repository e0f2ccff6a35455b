import torch

from t2v.pipelines.interpolation.colour import low_pass, match_colours


def test_low_pass_keeps_the_mean_and_takes_detail_away() -> None:
    flat = torch.full((1, 3, 16, 20), 0.3)
    torch.testing.assert_close(low_pass(flat, 2.0), flat)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert low_pass(noise, 3.0).std() < 0.2 * noise.std()


def test_made_frames_take_the_colour_of_their_neighbours_and_no_detail() -> None:
    generator = torch.Generator().manual_seed(0)
    returned = torch.zeros(2, 3, 32, 32)
    known = torch.tensor([0.1, -0.2])[:, None, None, None] + 0.05 * torch.randn(2, 3, 32, 32, generator=generator)
    made = torch.zeros(3, 3, 32, 32)
    out = match_colours(made, [0.25, 0.5, 2.0], known, returned, [0.0, 1.0])
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.tensor([0.025, -0.05, -0.2]), atol=5e-3, rtol=0.05)
    assert out[1].std() < 0.04  # the grain of the known frames is not copied
    assert torch.equal(match_colours(made, [0.25, 0.5, 2.0], known, known, [0.0, 1.0]), made)
