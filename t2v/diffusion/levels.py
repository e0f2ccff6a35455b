"""The noise levels that ODE samplers visit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError

# abar given to a timestep without signal, so that sigma / alpha is finite; the public schedulers' value.
MIN_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True)
class Levels:
    """Noise levels from noise to clean: n steps between n + 1 levels."""

    timesteps: Tensor  # (n,) what the network is told, long or float32
    alphas: list[float]  # n + 1 factors of the clean sample; the last is 1
    sigmas: list[float]  # n + 1 factors of the noise; the last is 0

    @property
    def num_steps(self) -> int:
        """Steps from the first level to the last: n."""
        return len(self.timesteps)


def noise_ratios(schedule: NoiseSchedule) -> Tensor:
    """sigma / alpha of every timestep, finite: fp64 (num_train_timesteps,)."""
    alphas_cumprod = schedule.alphas_cumprod
    alphas_cumprod = torch.where(alphas_cumprod == 0, MIN_ALPHA_BAR, alphas_cumprod)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def levels_from_ratios(timesteps: Tensor, ratios: Tensor) -> Levels:
    """Variance preserving levels with sigma / alpha = ratios (n,), then the clean sample."""
    alphas = (1 + ratios**2).rsqrt()
    return Levels(timesteps, [*alphas.tolist(), 1.0], [*(ratios * alphas).tolist(), 0.0])


def levels_at(schedule: NoiseSchedule, timesteps: Tensor) -> Levels:
    """Levels at timesteps (n,), fractional ones between their neighbours, then the clean sample."""
    if schedule.prediction_type == "flow":
        sigmas = schedule.shift_sigmas((timesteps.double() + 1) / schedule.num_train_timesteps)
        return Levels(timesteps, [*(1 - sigmas).tolist(), 1.0], [*sigmas.tolist(), 0.0])
    table = noise_ratios(schedule)
    low = timesteps.floor().long()
    high = (low + 1).clamp(max=len(table) - 1)
    return levels_from_ratios(timesteps, torch.lerp(table[low], table[high], timesteps.double() - low))


def sigma_levels(schedule: NoiseSchedule, num_inference_steps: int) -> Levels:
    """Levels of the Euler and Heun schedulers: the schedule's timesteps, but linspace spacing is not rounded."""
    timesteps = schedule.timesteps(num_inference_steps)
    if schedule.timestep_spacing == "linspace":
        timesteps = schedule.linspace_timesteps(num_inference_steps).float()
        if schedule.prediction_type == "flow" and num_inference_steps == 1:
            timesteps += schedule.num_train_timesteps - 1  # flow schedulers count from noise, the others from 0
    return levels_at(schedule, timesteps)


def multistep_levels(schedule: NoiseSchedule, num_inference_steps: int) -> Levels:
    """Levels of the multistep DPM-Solver scheduler: one timestep more than asked for, the lowest left out.

    Rectified flow takes the levels of `sigma_levels`.
    """
    count = schedule.num_train_timesteps
    if schedule.timestep_spacing == "trailing" or schedule.prediction_type == "flow":
        return sigma_levels(schedule, num_inference_steps)
    if not 1 <= num_inference_steps < count:
        raise InputError(
            f"num_inference_steps must be from 1 to {count - 1} for this sampler, got {num_inference_steps}"
        )
    return levels_at(schedule, schedule.timesteps(num_inference_steps + 1)[:-1])


def karras_levels(schedule: NoiseSchedule, num_inference_steps: int, rho: float = 7.0) -> Levels:
    """Levels of arXiv 2206.00364 equation 5 between the table's ends; the network is told the nearest timestep."""
    if schedule.prediction_type == "flow":
        raise InputError("Karras noise levels have no meaning for a flow model; use 'euler', 'heun' or 'dpmpp_2m'")
    if num_inference_steps < 1:
        raise InputError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
    table = noise_ratios(schedule)
    ramp = torch.linspace(0, 1, num_inference_steps, dtype=torch.float64)
    inverse_max, inverse_min = table[-1] ** (1 / rho), table[0] ** (1 / rho)
    ratios = (inverse_max + ramp * (inverse_min - inverse_max)) ** rho
    logs = table.log()
    indices = torch.arange(len(table))
    low = torch.where(table <= ratios[:, None], indices, 0).amax(dim=1).clamp(max=len(table) - 2)
    timesteps = low + ((ratios.log() - logs[low]) / (logs[low + 1] - logs[low])).clamp(0, 1)
    return levels_from_ratios(timesteps.round().long(), ratios)
