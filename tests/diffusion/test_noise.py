import torch

from t2v.diffusion.noise import randn


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
