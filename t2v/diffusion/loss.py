"""Training losses of a denoiser, one value per sample."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v.diffusion.noise import INDEPENDENT, NoisePrior
from t2v.diffusion.schedule import NoiseSchedule, posterior
from t2v.errors import InputError

Weighting = Literal["none", "min_snr", "min_snr_plus_one"]


def mean_over_sample(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of (B, ...) over everything but the batch, where `mask` (broadcast to values) is not zero: (B,)."""
    if mask is None:
        return values.flatten(1).mean(dim=1)
    mask = mask.to(values.dtype).expand_as(values)
    return (values * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)


def simple_loss(
    schedule: NoiseSchedule,
    model_output: Tensor,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    mask: Tensor | None = None,
    noise_prior: NoisePrior = INDEPENDENT,
) -> Tensor:
    """L_simple, arXiv 2006.11239 equation 14, for any prediction type: mean squared error per sample, fp32 (B,).

    Where frames share noise, an error counts by how much noise there is of its kind, as in the variational bound, which
    has e^T S^-1 e, S the covariance of the noise over the frames that count. Here it is own^T S^-1 own, own being the
    error less its mean over these frames, so 1 / (1 - shared_noise) times the square in mixed noise, and in progressive
    noise more for what flickers and less for what changes slowly. The mean keeps its weight of 1, where the bound has
    less.

    Args:
        model_output: (B, C, ...), or (B, 2C, ...) where the second half is a learned variance (not looked at here).
        latents: clean samples (B, C, ...).
        timesteps: long (B,).
        mask: what counts, broadcast to latents; None: everything. Whole frames, where they share noise.
        noise_prior: of the noise; frames that share it are those of videos (B, C, F, h, w).
    """
    target = schedule.target(latents, noise, timesteps)
    prediction, _ = schedule.split_output(model_output, latents.shape[1])
    error = prediction.float() - target.float()
    if noise_prior.shared_noise == 0:
        return mean_over_sample(error.square(), mask)
    counted = torch.ones_like(error) if mask is None else mask.to(error.dtype).expand_as(error)
    return mean_over_sample(_squares_of_shared_noise(error, counted, noise_prior), mask)


def _squares_of_shared_noise(error: Tensor, counted: Tensor, noise_prior: NoisePrior) -> Tensor:
    """Of errors (B, C, F, h, w), for `simple_loss`; counted: 1 in the frames that count and 0 in others, as large."""
    common = (error * counted).sum(2, keepdim=True) / counted.sum(2, keepdim=True).clamp(min=1)
    if noise_prior.kind == "mixed":  # S has one eigenvalue for all differences
        shared_noise = noise_prior.shared_noise
        return (error.square() - shared_noise * common.square()) / (1 - shared_noise)
    # a Markov chain: own^T S^-1 own is the sum of (own - correlation * own before it)^2 / (1 - correlation^2)
    frames = torch.arange(error.shape[2], device=error.device)
    last = torch.where(counted[:, 0, :, 0, 0] > 0, frames, -1).cummax(dim=1).values
    before = F.pad(last, (1, -1), value=-1)  # (B, F): the frame that counts before each, -1 for the first one
    correlation = torch.where(before >= 0, noise_prior.shared_noise ** (frames - before).double(), 0.0)
    correlation = correlation[:, None, :, None, None]
    own = error - common
    own_before = own.gather(2, before.clamp(min=0)[:, None, :, None, None].expand_as(own))
    steps = own - correlation.to(own) * own_before
    return steps.square() / (1 - correlation.square()).to(own) + common.square()


def min_snr_weights(schedule: NoiseSchedule, timesteps: Tensor, gamma: float = 5.0, plus_one: bool = False) -> Tensor:
    """Min-SNR weights of the mean squared error in the network's own prediction, arXiv 2303.09556 section 3.4.

    The error of the clean sample is weighted by min(snr, gamma). As x_0 = k * output + ..., the same weight on the
    output's error is min(snr, gamma) * k^2: epsilon k^2 = 1/snr, v k^2 = 1/(snr + 1), sample k = 1, flow k = sigma.

    Args:
        plus_one: weight the clean sample by min(snr, gamma) + 1 instead. The plain weights of v and flow are zero at
            a terminal timestep without signal, which would then never be trained; these are 1 there.

    Returns:
        fp32 (B,) on the device of timesteps.
    """
    snr = schedule.snr(timesteps)
    weights = snr.clamp(max=gamma) + float(plus_one)
    if schedule.prediction_type == "epsilon":
        weights = weights / snr
    elif schedule.prediction_type == "v_prediction":
        weights = weights / (snr + 1)
    elif schedule.prediction_type == "flow":
        weights = weights * schedule.sigmas[timesteps.cpu()].square()
    return weights.float().to(timesteps.device)


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N_1 || N_2) of diagonal Gaussians, elementwise, in nats."""
    ratio = torch.exp(log_variance_1 - log_variance_2)
    distance = (mean_1 - mean_2).square() * torch.exp(-log_variance_2)
    return 0.5 * (log_variance_2 - log_variance_1 + ratio + distance - 1)


def discretized_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log of the Gaussian's mass in the bin of an 8-bit value scaled to [-1, 1], in nats, arXiv 2006.11239 eq. 13.

    The outermost bins reach to infinity. Meant for pixels; on latents it is the same bin width around the value.
    """
    half_bin = 1 / 255
    scale = torch.exp(-0.5 * log_variance)
    upper = torch.special.ndtr((x - mean + half_bin) * scale)
    lower = torch.special.ndtr((x - mean - half_bin) * scale)
    upper = torch.where(x > 1 - half_bin, torch.ones_like(upper), upper)
    lower = torch.where(x < -1 + half_bin, torch.zeros_like(lower), lower)
    return -(upper - lower).clamp(min=1e-12).log()


def vlb_term(
    schedule: NoiseSchedule, model_output: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """One term L_t of the variational bound for a learned_range variance, arXiv 2102.09672 equations 4-7 and 15.

    The KL divergence to the true posterior for t > 0, the discretised likelihood of 8-bit pixels in [-1, 1] at t = 0;
    in bits per dimension, fp32 (B,). The mean is detached, so only the variance half learns from it.

    Args:
        model_output: (B, 2C, ...): prediction and variance in [-1, 1], between the posterior variance and beta.
    """
    if schedule.prediction_type == "flow":
        raise InputError("loss: the variational bound needs a variance preserving schedule, got prediction_type 'flow'")
    prediction, fraction = schedule.split_output(model_output.float(), latents.shape[1])
    if fraction is None:
        raise InputError(
            f"loss: the variational bound trains a learned variance, got variance_type {schedule.variance_type!r}; "
            "use 'learned_range'"
        )
    latents = latents.float()
    x = schedule.add_noise(latents, noise.float(), timesteps)

    alpha_bar = schedule.alphas_cumprod
    alpha_bar_prev = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    x0_coefficient, x_coefficient, variance, beta = posterior(alpha_bar, alpha_bar_prev)
    variance = torch.cat(
        [variance[1:2], variance[1:]]
    )  # the variance of t = 0 is zero: clipped, as in the paper's code
    shape = [-1] + [1] * (latents.ndim - 1)

    def at_timesteps(table: Tensor) -> Tensor:
        return table[timesteps.cpu()].float().to(latents.device).reshape(shape)

    x0 = schedule.to_x0(x, prediction.detach(), timesteps)
    x0_coefficient, x_coefficient = at_timesteps(x0_coefficient), at_timesteps(x_coefficient)
    min_log, max_log = at_timesteps(variance.log()), at_timesteps(beta.log())
    fraction = (fraction + 1) / 2
    log_variance = fraction * max_log + (1 - fraction) * min_log
    mean = x0_coefficient * x0 + x_coefficient * x
    kl = normal_kl(x0_coefficient * latents + x_coefficient * x, min_log.expand_as(mean), mean, log_variance)
    nll = discretized_nll(latents, mean, log_variance)
    first = (timesteps == 0).to(latents.device).reshape(shape)
    return mean_over_sample(torch.where(first, nll, kl)) / math.log(2)


def diffusion_loss(
    schedule: NoiseSchedule,
    model_output: Tensor,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    *,
    weighting: Weighting = "none",
    gamma: float = 5.0,
    vlb_weight: float = 0.0,
    mask: Tensor | None = None,
) -> Tensor:
    """The loss of each sample, fp32 (B,): weighted L_simple + vlb_weight * L_vlb (arXiv 2102.09672 eq. 16).

    L_vlb is a sum over all timesteps, so a random one counts num_train_timesteps times; the paper's weight is 0.001.

    Args:
        model_output: the network's answer to `schedule.add_noise(latents, noise, timesteps)`.
        weighting: weights of L_simple over timesteps; see `min_snr_weights`.
        gamma: bound of the signal-to-noise ratio in the weights.
        mask: elements that count in L_simple, broadcast to latents.
    """
    loss = simple_loss(schedule, model_output, latents, noise, timesteps, mask)
    if weighting != "none":
        plus_one = weighting == "min_snr_plus_one"
        loss = loss * min_snr_weights(schedule, timesteps, gamma, plus_one).to(loss.device)
    if vlb_weight:
        vlb = vlb_term(schedule, model_output, latents, noise, timesteps)
        loss = loss + vlb_weight * schedule.num_train_timesteps * vlb
    return loss
