import itertools

import pytest
import torch
from diffusers import DDPMScheduler

from t2v.diffusion.noise import NoisePrior
from t2v.diffusion.sampling import sample, sampling_steps
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError


def make_noise(shape=(2, 3, 2, 4, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def network(x, timestep):
    return torch.tanh(x.roll(1, 1) + timestep.to(x) / 1000)


def network_with_variance(x, timestep):
    return torch.cat([network(x, timestep), torch.sin(3 * x)], dim=1)


def gaussian_network(schedule, deviation):
    """The ideal epsilon prediction for data N(0, deviation^2)."""

    def predict(x, timestep):
        alpha, sigma = schedule.alphas[timestep].item(), schedule.sigmas[timestep].item()
        return x * sigma / (alpha**2 * deviation**2 + sigma**2)

    return predict


@pytest.mark.parametrize("num_steps", [5, 13, 40])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("steps_offset", [0, 1])
def test_ddpm_variance_agrees_with_diffusers(variance_type, num_steps, steps_offset):
    schedule = NoiseSchedule(beta_start=0.00085, beta_end=0.012, variance_type=variance_type, steps_offset=steps_offset)
    function = network_with_variance if variance_type == "learned_range" else network
    steps = sampling_steps(
        "ddpm", function, schedule, make_noise(), num_steps, generator=torch.Generator().manual_seed(3)
    )
    peer = DDPMScheduler.from_config(schedule.to_config() | {"variance_type": variance_type})
    peer.set_timesteps(num_steps)
    generator, x = torch.Generator().manual_seed(3), make_noise()
    for timestep, step in zip(peer.timesteps, steps, strict=True):
        result = peer.step(function(x, timestep), timestep, x, generator=generator)
        x = result.prev_sample
        torch.testing.assert_close(step.x, x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(step.x0, result.pred_original_sample, rtol=1e-5, atol=1e-4)


def test_ddpm_refuses_a_network_without_the_learned_variance():
    schedule = NoiseSchedule(variance_type="learned_range")
    with pytest.raises(InputError, match="needs 6 output channels for 3 channels of data, the network has 3"):
        sample("ddpm", network, schedule, make_noise(), 5, generator=torch.Generator())


def test_ddim_takes_the_mean_half_of_a_learned_variance_network():
    generator = torch.Generator().manual_seed(0)
    plain = sample("ddim", network, NoiseSchedule(), make_noise(), 5, generator=generator)
    learned = NoiseSchedule(variance_type="learned_range")
    assert torch.equal(sample("ddim", network_with_variance, learned, make_noise(), 5), plain)


def test_ddim_with_eta_1_is_ddpm():
    schedule = NoiseSchedule()
    ddim, ddpm = (
        list(
            sampling_steps(
                name, network, schedule, make_noise(), 10, generator=torch.Generator().manual_seed(0), **options
            )
        )
        for name, options in (("ddim", {"eta": 1.0}), ("ddpm", {}))
    )
    for a, b in zip(ddim, ddpm, strict=True):
        torch.testing.assert_close(a.x, b.x)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_ddpm_ends_in_the_distribution_of_the_data(variance_type):
    schedule = NoiseSchedule(variance_type=variance_type)
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    result = sample(
        "ddpm",
        gaussian_network(schedule, 0.5),
        schedule,
        noise,
        1000,
        generator=torch.Generator().manual_seed(1),
    )
    assert result.mean().item() == pytest.approx(0, abs=0.015)
    assert result.std().item() == pytest.approx(0.5, rel=0.02)


def test_ddim_converges_with_order_1_to_the_closed_form():
    """For data N(0, s^2) the ODE keeps x / sqrt(alpha^2 s^2 + sigma^2) constant."""
    deviation = 0.5
    schedule = NoiseSchedule(num_train_timesteps=10_000, beta_end=0.002, beta_start=1e-5, timestep_spacing="trailing")
    noise = torch.ones(1, 1, dtype=torch.float64)
    alpha, sigma = schedule.alphas[-1].item(), schedule.sigmas[-1].item()
    expected = deviation / (alpha**2 * deviation**2 + sigma**2) ** 0.5
    errors = [
        abs(sample("ddim", gaussian_network(schedule, deviation), schedule, noise, num_steps).item() - expected)
        for num_steps in (50, 100, 200, 400)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


@pytest.mark.parametrize("kind", ["mixed", "progressive"])
@pytest.mark.parametrize(("name", "eta"), [("ddpm", 0.0), ("ddim", 1.0), ("lcm", 0.0)])
def test_fresh_noise_is_shared_by_the_frames_as_much_as_asked(name, eta, kind):
    """Frames that start equal stay equal under wholly shared noise, and part under independent noise."""
    start = torch.randn(1, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).expand(1, 2, 4, 3, 3)
    spread = {}
    for shared_noise in (0.0, 1 - 1e-12):
        generator = torch.Generator().manual_seed(1)
        options = {"generator": generator, "eta": eta, "noise_prior": NoisePrior(shared_noise, kind)}
        x = sample(name, lambda x, t: x, NoiseSchedule(), start, 5, **options)
        spread[shared_noise] = (x - x[:, :, :1]).abs().max().item()
    assert spread[0.0] > 0.1 and spread[1 - 1e-12] < 1e-4
