import pytest
import torch

from t2v.diffusion.noise import INDEPENDENT, NoisePrior, randn
from t2v.models.unet_config import NOISE_PRIORS


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
@pytest.mark.parametrize(
    ("kind", "correlation"), [("mixed", lambda share, d: share), ("progressive", lambda share, d: share**d)]
)
def test_frames_keep_their_variance_and_correlate_as_the_paper_says(shared_noise, kind, correlation):
    noise = torch.randn(4000, 1, 5, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frames = NoisePrior(shared_noise, kind).correlate(noise).movedim(2, 0).flatten(1)
    distances = [[abs(i - j) for j in range(5)] for i in range(5)]
    expected = torch.tensor([[correlation(shared_noise, d) if d else 1.0 for d in row] for row in distances])
    torch.testing.assert_close(torch.cov(frames), expected.double(), atol=0.04, rtol=0)


@pytest.mark.parametrize("kind", NOISE_PRIORS)
def test_independent_noise_stays_itself_and_so_does_a_single_frame(kind):
    noise = torch.randn(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert NoisePrior(0.0, kind).correlate(noise) is INDEPENDENT.correlate(noise) is noise
    torch.testing.assert_close(NoisePrior(0.7, kind).correlate(noise), noise)


def test_progressive_noise_of_a_longer_video_begins_with_that_of_a_shorter_one():
    noise = torch.randn(1, 4, 24, 3, 3, generator=torch.Generator().manual_seed(0))
    prior = NoisePrior(0.9, "progressive")
    assert torch.equal(prior.correlate(noise)[:, :, :16], prior.correlate(noise[:, :, :16]))


def test_a_long_video_may_share_nearly_all_its_noise():
    noise = torch.randn(1, 1, 500, 2, 2, generator=torch.Generator().manual_seed(0))
    for kind, common in (("mixed", noise.sum(2, keepdim=True) / 500**0.5), ("progressive", noise[:, :, :1])):
        correlated = NoisePrior(1 - 1e-15, kind).correlate(noise)
        torch.testing.assert_close(correlated, common.expand_as(noise), atol=1e-3, rtol=0)
