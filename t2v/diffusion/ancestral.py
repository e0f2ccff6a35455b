"""Samplers over the schedule's own timesteps: DDPM and DDIM."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from t2v.diffusion.denoiser import Denoiser, Step
from t2v.diffusion.noise import INDEPENDENT, Generators, NoisePrior, randn
from t2v.diffusion.schedule import NoiseSchedule, output_to_epsilon, output_to_x0, posterior
from t2v.errors import InputError


def draw(like: Tensor, generator: Generators | None, noise_prior: NoisePrior, sampler: str) -> Tensor:
    """Fresh noise of the shape, dtype and device of `like`."""
    if generator is None:
        raise InputError(f"sampler {sampler!r} draws noise at every step; pass generator=torch.Generator()")
    return noise_prior.correlate(randn(like.shape, generator)).to(like)


def refuse_flow(schedule: NoiseSchedule, sampler: str) -> None:
    """DDPM and DDIM are defined on variance preserving schedules."""
    if schedule.prediction_type == "flow":
        raise InputError(f"sampler {sampler!r} has no meaning for a flow model; use 'euler', 'heun' or 'dpmpp_2m'")


def ddpm(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    num_inference_steps: int,
    generator: Generators | None,
    noise_prior: NoisePrior = INDEPENDENT,
) -> Iterator[Step]:
    """Ancestral sampling, arXiv 2006.11239 algorithm 2; on fewer steps as arXiv 2102.09672 section 4.

    The variance is schedule.variance_type: the posterior's (fixed_small), beta (fixed_large), or between them in the
    logarithm, as the network says (learned_range, arXiv 2102.09672 equation 15).
    """
    refuse_flow(schedule, "ddpm")
    timesteps = schedule.timesteps(num_inference_steps)
    alpha_bars = [*schedule.alphas_cumprod[timesteps].tolist(), 1.0]
    x = noise
    for index, timestep in enumerate(timesteps.tolist()):
        alpha_bar, alpha_bar_prev = alpha_bars[index], alpha_bars[index + 1]
        output, fraction = schedule.split_output(denoiser(x, timesteps[index]), x.shape[1])
        scales = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        x0 = schedule.clip(output_to_x0(x, output, *scales, schedule.prediction_type))
        x0_coefficient, x_coefficient, variance, beta = posterior(alpha_bar, alpha_bar_prev)
        x = x0_coefficient * x0 + x_coefficient * x
        if timestep > 0:
            variance = max(variance, 1e-20)  # zero at the last step; its logarithm is taken
            if fraction is not None:
                fraction = (fraction + 1) / 2
                log_variance = fraction * math.log(beta) + (1 - fraction) * math.log(variance)
                deviation: Tensor | float = torch.exp(0.5 * log_variance)
            else:
                deviation = (beta if schedule.variance_type == "fixed_large" else variance) ** 0.5
            x = x + deviation * draw(x, generator, noise_prior, "ddpm")
        yield Step(x, x0)


def ddim(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    num_inference_steps: int,
    generator: Generators | None,
    eta: float,
    noise_prior: NoisePrior = INDEPENDENT,
) -> Iterator[Step]:
    """DDIM, arXiv 2010.02502 equations 12 and 16: deterministic at eta 0, as noisy as DDPM at eta 1.

    A step goes down by num_train_timesteps // num_inference_steps, as in the scheduler of that name; where the spacing
    is not that even, the next step reads the sample at its own, slightly different timestep.
    """
    refuse_flow(schedule, "ddim")
    timesteps = schedule.timesteps(num_inference_steps)
    table = schedule.alphas_cumprod.tolist()
    final_alpha_bar = 1.0 if schedule.set_alpha_to_one else table[0]
    stride = schedule.num_train_timesteps // num_inference_steps
    x = noise
    for index, timestep in enumerate(timesteps.tolist()):
        alpha_bar = table[timestep]
        alpha_bar_prev = table[timestep - stride] if timestep >= stride else final_alpha_bar
        output, _ = schedule.split_output(denoiser(x, timesteps[index]), x.shape[1])
        scales = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        epsilon = output_to_epsilon(x, output, *scales, schedule.prediction_type)
        x0 = schedule.clip(output_to_x0(x, output, *scales, schedule.prediction_type))
        variance = eta**2 * posterior(alpha_bar, alpha_bar_prev)[2]
        x = alpha_bar_prev**0.5 * x0 + max(1 - alpha_bar_prev - variance, 0.0) ** 0.5 * epsilon
        if eta > 0:
            x = x + variance**0.5 * draw(x, generator, noise_prior, "ddim")
        yield Step(x, x0)
