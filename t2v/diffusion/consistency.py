"""Sampling of latent consistency models (LCM, arXiv 2310.04378): few steps, each from noise straight to an estimate."""

from collections.abc import Iterator

import torch
from torch import Tensor

from t2v.diffusion.ancestral import draw, refuse_flow
from t2v.diffusion.denoiser import Denoiser, Step
from t2v.diffusion.noise import INDEPENDENT, Generators, NoisePrior
from t2v.diffusion.schedule import NoiseSchedule, output_to_x0
from t2v.errors import InputError

DISTILLATION_STEPS = 50  # of the solver that the models were distilled from; inference visits some of them
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


def lcm_timesteps(num_train_timesteps: int, num_inference_steps: int) -> Tensor:
    """Timesteps of the distillation, evenly picked: long (num_inference_steps,), descending from the last.

    Raises:
        InputError: more steps than were distilled.
    """
    if not 1 <= num_inference_steps <= DISTILLATION_STEPS:
        raise InputError(
            f"num_inference_steps must be from 1 to {DISTILLATION_STEPS} with sampler 'lcm' (4 to 8 are usual), got "
            f"{num_inference_steps}"
        )
    stride = num_train_timesteps // DISTILLATION_STEPS
    distilled = torch.arange(1, DISTILLATION_STEPS + 1).flip(0) * stride - 1
    return distilled[torch.arange(num_inference_steps) * DISTILLATION_STEPS // num_inference_steps]


def lcm(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    num_inference_steps: int,
    generator: Generators | None,
    noise_prior: NoisePrior = INDEPENDENT,
) -> Iterator[Step]:
    """Multistep consistency sampling, arXiv 2303.01469 algorithm 1, with the boundary scalings of its appendix C."""
    refuse_flow(schedule, "lcm")
    timesteps = lcm_timesteps(schedule.num_train_timesteps, num_inference_steps)
    x = noise
    for index, timestep in enumerate(timesteps):
        output, _ = schedule.split_output(denoiser(x, timestep), x.shape[1])
        alpha_bar = float(schedule.alphas_cumprod[timestep])
        scales = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        estimate = schedule.clip(output_to_x0(x, output, *scales, schedule.prediction_type))
        time = float(timestep) * TIMESTEP_SCALING
        c_skip = SIGMA_DATA**2 / (time**2 + SIGMA_DATA**2)
        c_out = time / (time**2 + SIGMA_DATA**2) ** 0.5
        x = x0 = c_out * estimate + c_skip * x
        if index + 1 < len(timesteps):
            alpha_bar = float(schedule.alphas_cumprod[timesteps[index + 1]])
            x = alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * draw(x, generator, noise_prior, "lcm")
        yield Step(x, x0)
