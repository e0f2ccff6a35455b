"""Samplers of the probability flow ODE: Euler, Heun and DPM-Solver++(2M), for variance preserving and flow models.

With y = x / scale and time = sigma / scale the ODE is dy/dtime = (y - x_0) / time in both worlds: the scale is alpha in
variance preserving diffusion (arXiv 2206.00364 section 4) and 1 in rectified flow.
"""

import math
from collections.abc import Iterator

from torch import Tensor

from t2v.diffusion.denoiser import Denoiser, Step
from t2v.diffusion.levels import Levels
from t2v.diffusion.schedule import NoiseSchedule, output_to_x0


def initial_x(schedule: NoiseSchedule, levels: Levels, noise: Tensor) -> Tensor:
    """The sample at the first level, without signal: sigma * noise, or noise where leading spacing starts lower."""
    return noise if schedule.timestep_spacing == "leading" else levels.sigmas[0] * noise


def estimate_x0(denoiser: Denoiser, schedule: NoiseSchedule, levels: Levels, index: int, x: Tensor) -> Tensor:
    """The denoiser's estimate of the clean sample from x at one level."""
    output, _ = schedule.split_output(denoiser(x, levels.timesteps[index]), x.shape[1])
    return output_to_x0(x, output, levels.alphas[index], levels.sigmas[index], schedule.prediction_type)


def first_order(levels: Levels, index: int, x: Tensor, x0: Tensor) -> Tensor:
    """Keep the estimates of sample and noise and go to the next level: an Euler step, and equally a DDIM step."""
    epsilon = (x - levels.alphas[index] * x0) / levels.sigmas[index]
    return levels.alphas[index + 1] * x0 + levels.sigmas[index + 1] * epsilon


def euler(denoiser: Denoiser, schedule: NoiseSchedule, levels: Levels, noise: Tensor) -> Iterator[Step]:
    """Euler's method, arXiv 2206.00364 algorithm 1 without its second order correction."""
    x = initial_x(schedule, levels, noise)
    for index in range(levels.num_steps):
        x0 = estimate_x0(denoiser, schedule, levels, index, x)
        x = first_order(levels, index, x, x0)
        yield Step(x, x0)


def heun(denoiser: Denoiser, schedule: NoiseSchedule, levels: Levels, noise: Tensor) -> Iterator[Step]:
    """Heun's method, arXiv 2206.00364 algorithm 1: two network calls a step, one in the last."""
    flow = schedule.prediction_type == "flow"
    scales = [1.0] * len(levels.alphas) if flow else levels.alphas
    times = [sigma / scale for sigma, scale in zip(levels.sigmas, scales, strict=True)]
    x = initial_x(schedule, levels, noise)
    for index in range(levels.num_steps):
        time, next_time = times[index], times[index + 1]
        x0 = schedule.clip(estimate_x0(denoiser, schedule, levels, index, x))
        y = x / scales[index]
        slope = (y - x0) / time
        next_y = y + (next_time - time) * slope
        if next_time > 0:
            x0 = schedule.clip(estimate_x0(denoiser, schedule, levels, index + 1, next_y * scales[index + 1]))
            slope = (slope + (next_y - x0) / next_time) / 2
            next_y = y + (next_time - time) * slope
        x = next_y * scales[index + 1]
        yield Step(x, x0)


def dpmpp_2m(denoiser: Denoiser, schedule: NoiseSchedule, levels: Levels, noise: Tensor) -> Iterator[Step]:
    """DPM-Solver++(2M), arXiv 2211.01095 algorithm 2, first order in the first and the last step."""
    # lambda = log(alpha / sigma): minus infinity at a first level without signal, infinity at the clean sample
    log_snrs = [
        math.log(alpha / sigma) if alpha > 0 and sigma > 0 else math.copysign(math.inf, alpha - sigma)
        for alpha, sigma in zip(levels.alphas, levels.sigmas, strict=True)
    ]
    x, previous_x0 = noise, noise
    for index in range(levels.num_steps):
        x0 = estimate_x0(denoiser, schedule, levels, index, x)
        estimate = x0
        if 0 < index < levels.num_steps - 1:
            step, previous_step = log_snrs[index + 1] - log_snrs[index], log_snrs[index] - log_snrs[index - 1]
            estimate = x0 + step / (2 * previous_step) * (x0 - previous_x0)
        x = first_order(levels, index, x, estimate)
        previous_x0 = x0
        yield Step(x, x0)
