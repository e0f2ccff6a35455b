import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from t2v.diffusion.loss import diffusion_loss, discretized_nll, min_snr_weights, normal_kl, simple_loss, vlb_term
from t2v.diffusion.noise import NoisePrior
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError

PREDICTION_TYPES = ["epsilon", "v_prediction", "sample", "flow"]


def make_batch(shape=(4, 3, 2, 5, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator) for _ in range(3))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_simple_loss_is_the_squared_error_of_the_target(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    latents, noise, error = make_batch()
    timesteps = torch.tensor([0, 10, 500, 999])
    output = schedule.target(latents, noise, timesteps) + error
    loss = simple_loss(schedule, output, latents, noise, timesteps)
    torch.testing.assert_close(loss, error.square().mean(dim=(1, 2, 3, 4)))


def test_simple_loss_counts_only_what_the_mask_keeps():
    schedule = NoiseSchedule()
    latents, noise, error = make_batch()
    timesteps = torch.tensor([0, 10, 500, 999])
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1)
    loss = simple_loss(schedule, noise + error, latents, noise, timesteps, mask)
    torch.testing.assert_close(loss, error[:, :, 0].square().mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("kind", ["mixed", "progressive"])
@pytest.mark.parametrize("shared", [0.8, 0.99])
@pytest.mark.parametrize("mask", [None, torch.tensor([1.0, 0, 1, 1, 0]).reshape(1, 1, 5, 1, 1)])
def test_errors_count_in_the_metric_of_shared_noise(mask, shared, kind):
    """e^T S^-1 e, but that the mean over the frames keeps its weight; S among the frames that count."""
    prior, (latents, noise, error) = NoisePrior(shared, kind), make_batch((4, 3, 5, 2, 2))
    among = torch.ones(5, dtype=torch.bool) if mask is None else mask.flatten() > 0
    distances = (torch.arange(5)[:, None] - torch.arange(5)).abs()
    covariance = (shared ** (distances if kind == "progressive" else distances.clamp(max=1)).double())[among][:, among]
    kept = error[:, :, among].double()
    common, own = kept.mean(2, keepdim=True), kept - kept.mean(2, keepdim=True)
    squares = torch.einsum("bcfhw,fg,bcghw->b", own, torch.linalg.inv(covariance), own) / kept[0].numel()
    timesteps = torch.tensor([0, 10, 500, 999])
    loss = simple_loss(NoiseSchedule(), noise + error, latents, noise, timesteps, mask, prior)
    expected = squares + common.square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_each_clip_counts_its_own_frames_in_the_metric_of_progressive_noise():
    prior, (latents, noise, error) = NoisePrior(0.9, "progressive"), make_batch((3, 3, 4, 2, 2))
    masks = torch.tensor([[1.0, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]]).reshape(3, 1, 4, 1, 1)
    timesteps = torch.tensor([0, 10, 500])
    together = simple_loss(NoiseSchedule(), noise + error, latents, noise, timesteps, masks, prior)
    for index in range(3):
        of = slice(index, index + 1)
        batch = (noise + error)[of], latents[of], noise[of], timesteps[of]
        torch.testing.assert_close(simple_loss(NoiseSchedule(), *batch, masks[of], prior), together[of])
    torch.testing.assert_close(together[2], error[2, :, 3].square().mean())  # a frame alone: as without a prior


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize(
    ("prediction_type", "definition"),
    [
        # arXiv 2303.09556 section 3.4, and its definition for x_0 carried over to flow: x_0 = x - sigma * output
        ("epsilon", lambda snr, sigma, gamma: min(snr, gamma) / snr),
        ("v_prediction", lambda snr, sigma, gamma: min(snr, gamma) / (snr + 1)),
        ("sample", lambda snr, sigma, gamma: min(snr, gamma)),
        ("flow", lambda snr, sigma, gamma: min(snr, gamma) * sigma**2),
    ],
)
def test_min_snr_weights_follow_their_definition(prediction_type, definition, gamma):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    timesteps = torch.tensor([0, 1, 100, 400, 999])
    expected = []
    for timestep in timesteps.tolist():
        alpha, sigma = schedule.alphas[timestep].item(), schedule.sigmas[timestep].item()
        expected.append(definition(alpha**2 / sigma**2, sigma, gamma))
    assert min_snr_weights(schedule, timesteps, gamma).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_min_snr_weights_mean_one_weight_of_the_clean_sample(prediction_type, plus_one):
    """Whatever is predicted, the weighted error is min(snr, gamma) (+ 1) times the error of the clean sample."""
    schedule = NoiseSchedule(prediction_type=prediction_type)
    latents, noise, output = (tensor.double() for tensor in make_batch())
    timesteps = torch.tensor([5, 100, 400, 900])
    x = schedule.add_noise(latents, noise, timesteps)
    error = (schedule.to_x0(x, output, timesteps) - latents).square().mean(dim=(1, 2, 3, 4))
    expected = (schedule.snr(timesteps).clamp(max=5.0) + plus_one) * error
    weighting = "min_snr_plus_one" if plus_one else "min_snr"
    loss = diffusion_loss(schedule, output, latents, noise, timesteps, weighting=weighting, gamma=5.0)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "flow"])
def test_min_snr_plus_one_trains_the_terminal_timestep(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type, rescale_betas_zero_snr=True)
    terminal = torch.tensor([999])
    assert min_snr_weights(schedule, terminal).item() == 0
    assert min_snr_weights(schedule, terminal, plus_one=True).item() == pytest.approx(1)


def test_normal_kl_equals_torch_distributions():
    mean_1, mean_2, log_variance_1 = make_batch()
    log_variance_2 = 0.5 * mean_1 + 0.3
    expected = kl_divergence(Normal(mean_1, (0.5 * log_variance_1).exp()), Normal(mean_2, (0.5 * log_variance_2).exp()))
    torch.testing.assert_close(normal_kl(mean_1, log_variance_1, mean_2, log_variance_2), expected)


def test_discretized_nll_is_a_distribution_over_256_values():
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, deviation in [(0.1, 0.05), (-1.3, 0.4), (0.99, 0.01)]:
        mean_tensor = torch.tensor(mean, dtype=torch.float64)
        log_variance = torch.tensor(2 * math.log(deviation), dtype=torch.float64)
        total = (-discretized_nll(values, mean_tensor, log_variance)).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-6)
    distribution = Normal(torch.tensor(0.1, dtype=torch.float64), 0.3)
    mass = distribution.cdf(values[100] + 1 / 255) - distribution.cdf(values[100] - 1 / 255)
    nll = discretized_nll(values[100], distribution.mean, 2 * distribution.stddev.log())
    assert nll.item() == pytest.approx(-math.log(mass.item()))


def direct_vlb(schedule, output, latents, noise, timestep):
    """L_t of one sample straight from arXiv 2102.09672: step-wise betas, Bayes' rule, torch.distributions; in bits."""
    alpha_bars = schedule.alphas_cumprod
    alphas = torch.cat([alpha_bars[:1], alpha_bars[1:] / alpha_bars[:-1]])
    alpha, alpha_bar = alphas[timestep], alpha_bars[timestep]
    alpha_bar_prev = alpha_bars[timestep - 1] if timestep > 0 else torch.tensor(1.0, dtype=torch.float64)

    def posterior_variance(t):
        return 1 / (alphas[t] / (1 - alphas[t]) + 1 / (1 - alpha_bars[t - 1]))

    def posterior_mean(x0):
        if timestep == 0:
            return x0
        precision_terms = alpha.sqrt() * x / (1 - alpha) + alpha_bar_prev.sqrt() * x0 / (1 - alpha_bar_prev)
        return precision_terms * posterior_variance(timestep)

    x = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
    prediction, raw = output.chunk(2, dim=0)
    if schedule.prediction_type == "epsilon":
        x0 = (x - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()
    else:
        x0 = alpha_bar.sqrt() * x - (1 - alpha_bar).sqrt() * prediction
    fraction = (raw + 1) / 2
    floor = posterior_variance(max(timestep, 1))
    deviation = (0.5 * (fraction * (1 - alpha).log() + (1 - fraction) * floor.log())).exp()
    model = Normal(posterior_mean(x0), deviation)
    if timestep > 0:
        truth = Normal(posterior_mean(latents), floor.sqrt().expand_as(latents))
        return kl_divergence(truth, model).mean() / math.log(2)
    upper = torch.where(latents > 0.999, 1.0, model.cdf(latents + 1 / 255))
    lower = torch.where(latents < -0.999, 0.0, model.cdf(latents - 1 / 255))
    return -(upper - lower).clamp(min=1e-12).log().mean() / math.log(2)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_vlb_term_equals_a_direct_computation(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type, variance_type="learned_range")
    _, noise, _ = make_batch()
    pixels = (torch.randint(0, 256, noise.shape, generator=torch.Generator().manual_seed(2)) / 127.5 - 1).float()
    pixels[0, 0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    timesteps = torch.tensor([0, 1, 500, 999])
    generator = torch.Generator().manual_seed(3)
    target = schedule.target(pixels, noise, timesteps)
    prediction = target + 0.1 * torch.randn(noise.shape, generator=generator)
    output = torch.cat([prediction, torch.rand(noise.shape, generator=generator) * 2 - 1], dim=1)
    terms = vlb_term(schedule, output, pixels, noise, timesteps)
    for index, timestep in enumerate(timesteps.tolist()):
        sample = (tensor[index].double() for tensor in (output, pixels, noise))
        assert terms[index].item() == pytest.approx(direct_vlb(schedule, *sample, timestep).item(), rel=2e-3, abs=1e-6)


def test_vlb_term_is_zero_for_the_true_posterior():
    schedule = NoiseSchedule(variance_type="learned_range")
    latents, noise, _ = make_batch()
    output = torch.cat([noise, -torch.ones_like(noise)], dim=1)
    terms = vlb_term(schedule, output, latents, noise, torch.tensor([1, 10, 500, 999]))
    torch.testing.assert_close(terms, torch.zeros(4), atol=1e-4, rtol=0)


def test_diffusion_loss_trains_the_mean_by_l_simple_and_the_variance_by_the_bound():
    schedule = NoiseSchedule(variance_type="learned_range")
    latents, noise, _ = make_batch()
    timesteps = torch.tensor([0, 10, 500, 999])
    output = torch.cat(make_batch(seed=1)[:2], dim=1).requires_grad_()
    simple = simple_loss(schedule, output, latents, noise, timesteps)
    bound = vlb_term(schedule, output, latents, noise, timesteps)
    loss = diffusion_loss(schedule, output, latents, noise, timesteps, vlb_weight=0.001)
    torch.testing.assert_close(loss, simple + 0.001 * 1000 * bound)

    (gradient,) = torch.autograd.grad(loss.sum(), output, retain_graph=True)
    (of_simple,) = torch.autograd.grad(simple.sum(), output, retain_graph=True)
    (of_bound,) = torch.autograd.grad(bound.sum(), output)
    torch.testing.assert_close(gradient[:, :3], of_simple[:, :3])
    assert (of_bound[:, :3] == 0).all()
    assert (of_simple[:, 3:] == 0).all()
    assert (of_bound[:, 3:] != 0).any()


def test_vlb_term_refuses_what_it_cannot_bound():
    latents, noise, output = make_batch()
    timesteps = torch.tensor([0, 10, 500, 999])
    with pytest.raises(InputError, match="needs 6 output channels"):
        vlb_term(NoiseSchedule(variance_type="learned_range"), output, latents, noise, timesteps)
    with pytest.raises(InputError, match="use 'learned_range'"):
        vlb_term(NoiseSchedule(), output, latents, noise, timesteps)
    with pytest.raises(InputError, match="variance preserving"):
        vlb_term(NoiseSchedule(prediction_type="flow"), output, latents, noise, timesteps)


@pytest.mark.parametrize("weighting", ["none", "min_snr", "min_snr_plus_one"])
def test_diffusion_loss_of_half_precision_is_single_and_per_sample(weighting):
    schedule = NoiseSchedule(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    latents, noise, output = (tensor.bfloat16() for tensor in make_batch())
    timesteps = torch.tensor([0, 10, 500, 999])
    loss = diffusion_loss(schedule, output, latents, noise, timesteps, weighting=weighting)
    assert loss.dtype == torch.float32
    assert loss.shape == (4,)
    assert loss.isfinite().all()
