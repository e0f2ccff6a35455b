import torch
from torch import Tensor

from t2v.pipelines.interpolation.residual import Guesses, KnownFrames, _laplacian, give_back, low_pass


def test_low_pass_keeps_the_mean_and_takes_detail_away() -> None:
    flat = torch.full((1, 3, 16, 20), 0.3)
    torch.testing.assert_close(low_pass(flat, 2.0), flat)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert low_pass(noise, 3.0).std() < 0.2 * noise.std()


def with_known(made: Tensor, times: list[float], pictures: Tensor, returned: Tensor) -> Tensor:
    """Frames between two known ones, whose cross-fade was the guess."""
    shares = torch.tensor(times).clamp(0, 1)[:, None, None, None]
    guesses = Guesses(*((1 - shares) * known[0] + shares * known[1] for known in (pictures, returned)))
    return torch.stack(list(give_back(made, times, KnownFrames([0.0, 1.0], pictures, pictures, returned), guesses)))


def fine_pattern(height: int, width: int, seed: int) -> Tensor:
    return 0.2 * torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def test_made_frames_take_the_colour_of_their_neighbours_and_no_detail_where_they_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    returned = torch.zeros(2, 3, 32, 32)
    levels = torch.tensor([0.1, -0.2])[:, None, None, None]
    known = levels + 0.05 * torch.randn(2, 3, 32, 32, generator=generator)
    made = torch.full((3, 3, 32, 32), 0.8)  # nothing of the neighbours
    out = with_known(made, [0.25, 0.5, 2.0], known, returned)
    torch.testing.assert_close(out.mean((1, 2, 3)) - 0.8, torch.tensor([0.025, -0.05, -0.2]), atol=5e-3, rtol=0.05)
    assert out[1].std() < 0.02  # the grain of the known frames is not copied
    torch.testing.assert_close(with_known(made, [0.25, 0.5, 2.0], known - 0.8, known - 0.8), made)


def test_what_stands_still_keeps_its_detail_and_what_moves_leaves_no_ghost() -> None:
    """A fine pattern stands; a bright square is at the left in the first frame and at the right in the second."""
    pattern = fine_pattern(32, 64, 1)
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
    guesses = Guesses(pictures[:1], small[:1])
    out = list(give_back(small[:1], [0.5], KnownFrames([0.0, 1.0], pictures, small, small), guesses))
    torch.testing.assert_close(out[0], pictures[0], atol=1e-4, rtol=0)


def test_what_stands_still_is_that_of_the_known_frames_whatever_the_network_adds_to_it() -> None:
    still = fine_pattern(32, 48, 2).repeat(2, 1, 1, 1)
    returned = low_pass(still, 1.5)
    made = returned[:1] + 0.05 * torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    out = with_known(made, [0.4], still, returned)
    assert (out - still[:1]).square().mean() < 0.05 * (made - returned[:1]).square().mean()


def test_a_guess_that_the_network_follows_takes_its_place() -> None:
    """A patterned square moves; what was guessed has it where the network puts it, the known frames do not."""
    square = fine_pattern(16, 16, 4) + 0.7
    truth, known = torch.zeros(1, 3, 32, 64), torch.zeros(2, 3, 32, 64)
    truth[0, :, 8:24, 24:40] = known[0, :, 8:24, 4:20] = known[1, :, 8:24, 44:60] = square
    neighbours = KnownFrames([0.0, 1.0], known, known, low_pass(known, 1.5))
    made = returned = low_pass(truth, 1.5)
    errors = []
    for guesses in (Guesses(truth, returned), Guesses(0 * truth, 0 * truth)):
        out = torch.stack(list(give_back(made, [0.5], neighbours, guesses)))
        errors.append((out - truth)[..., 10:22, 26:38].abs().mean())
    assert errors[0] < 0.1 * errors[1]


def test_a_frame_is_as_sharp_as_its_neighbours() -> None:
    """Other patterns than the known ones, so that nothing of these is taken; a sharper one stays as it is."""
    known = 3 * torch.stack([fine_pattern(64, 64, 5), fine_pattern(64, 64, 6)])
    pattern = 3 * fine_pattern(64, 64, 7)[None]
    soft, softest = 0.7 * pattern + 0.3 * low_pass(pattern, 1.0), low_pass(pattern, 1.0)
    sharpness = [
        float(_laplacian(pictures).square().mean())
        for pictures in (known, soft, with_known(soft, [0.5], known, known), with_known(softest, [0.5], known, known))
    ]
    assert sharpness[1] < 0.7 * sharpness[0]
    assert abs(sharpness[2] / sharpness[0] - 1) < 0.1
    assert sharpness[3] < 0.5 * sharpness[0]  # what is not there is not made up
    torch.testing.assert_close(with_known(1.2 * pattern, [0.5], known, known), 1.2 * pattern, atol=0.05, rtol=0)


def test_sharpness_follows_the_nearer_of_two_unequal_neighbours() -> None:
    known = torch.stack([fine_pattern(64, 64, 5), 3 * fine_pattern(64, 64, 6)])
    made = 2.0 * fine_pattern(64, 64, 7)[None].repeat(2, 1, 1, 1) + 1
    made = low_pass(made, 0.5)
    out = with_known(made, [0.2, 0.8], known, known - 1)  # as if the model darkened what it returns
    assert _laplacian(out[1:]).square().mean() > 1.5 * _laplacian(out[:1]).square().mean()


def test_what_stands_still_beside_what_moves_is_not_sharpened() -> None:
    """At the left texture that the network makes anew, and too soft; at the right faint grain in both known frames."""
    left = torch.stack([fine_pattern(64, 48, seed) for seed in (8, 9, 10)]) * 2
    right = 0.1 * fine_pattern(64, 48, 11).expand(3, -1, -1, -1)
    first, second, truth = torch.cat([left, right], dim=3).split(1)
    known = torch.cat([first, second])
    made = torch.cat([0.6 * truth[..., :48] + 0.4 * low_pass(truth[..., :48], 1.0), truth[..., 48:]], dim=3)
    out = with_known(made, [0.5], known, known)
    assert _laplacian(out[..., :40]).square().mean() > 1.2 * _laplacian(made[..., :40]).square().mean()
    torch.testing.assert_close(out[..., 56:], truth[..., 56:], atol=1e-3, rtol=0)
