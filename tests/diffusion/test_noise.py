import pytest
import torch

from t2v.diffusion.noise import randn, share_noise


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_randn_gives_video_i_the_noise_of_its_own_seed():
    together = randn((3, 4, 2, 5, 5), generators(5, 6, 7))
    for index in range(3):
        alone = randn((1, 4, 2, 5, 5), generators(5 + index))
        assert torch.equal(together[index : index + 1], alone)


def test_randn_with_one_generator_draws_the_whole_batch():
    drawn = randn((2, 3), torch.Generator().manual_seed(0))
    assert torch.equal(drawn, torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    assert drawn.dtype == torch.float32


def test_randn_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    randn((2, 3), generators(0, 1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shared_noise", [0.3, 0.8])
def test_shared_noise_keeps_the_variance_and_correlates_frames(shared_noise):
    noise = torch.randn(4000, 1, 5, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frames = share_noise(noise, shared_noise).movedim(2, 0).flatten(1)
    expected = (1 - shared_noise) * torch.eye(5, dtype=torch.float64) + shared_noise
    assert torch.allclose(torch.cov(frames), expected, atol=0.04)


def test_no_shared_noise_is_the_noise_itself_and_one_frame_stays_as_it_is():
    noise = torch.randn(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert share_noise(noise, 0.0) is noise
    assert torch.allclose(share_noise(noise, 0.7), noise)
