"""Sampling: from noise to a clean sample, by the name of a sampler.

Every sampler is a pure function that yields one `Step` after another. To add one, write it beside its family
(`ancestral.py`: the schedule's timesteps; `ode.py`: chosen noise levels; `consistency.py`) and name it below.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from t2v.diffusion.ancestral import ddim, ddpm
from t2v.diffusion.consistency import lcm
from t2v.diffusion.denoiser import Callback, Denoiser, Step
from t2v.diffusion.levels import Levels, karras_levels, multistep_levels, sigma_levels
from t2v.diffusion.noise import INDEPENDENT, Generators, NoisePrior
from t2v.diffusion.ode import dpmpp_2m, euler, heun
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError

OdeSampler = Callable[[Denoiser, NoiseSchedule, Levels, Tensor], Iterator[Step]]

ODE_SAMPLERS: dict[str, tuple[OdeSampler, Callable[[NoiseSchedule, int], Levels]]] = {
    "euler": (euler, sigma_levels),
    "heun": (heun, sigma_levels),
    "dpmpp_2m": (dpmpp_2m, multistep_levels),
    "dpmpp_2m_karras": (dpmpp_2m, karras_levels),
}
SAMPLERS: tuple[str, ...] = ("ddpm", "ddim", *ODE_SAMPLERS, "lcm")
OWN_TIMESTEPS = ("dpmpp_2m_karras", "lcm")  # these do not ask for the schedule's timestep_spacing


def check_sampler(name: str) -> None:
    """Raise InputError that lists the known samplers if `name` is none of them."""
    if name not in SAMPLERS:
        raise InputError(f"unknown sampler {name!r}; known are {', '.join(SAMPLERS)}")


def sampling_steps(
    name: str,
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    num_inference_steps: int,
    *,
    generator: Generators | None = None,
    eta: float = 0.0,
    noise_prior: NoisePrior = INDEPENDENT,
) -> Iterator[Step]:
    """The steps of `sample`, one after another, in the dtype of noise but at least fp32."""
    check_sampler(name)
    if not 0 <= eta <= 1:
        raise InputError(f"eta must be from 0 to 1, got {eta}")
    if eta and name != "ddim":
        raise InputError(f"eta is an option of sampler 'ddim', got sampler {name!r} with eta {eta}")
    dtype = torch.promote_types(noise.dtype, torch.float32)

    def precise(x: Tensor, timestep: Tensor, /) -> Tensor:
        return denoiser(x.to(noise.dtype), timestep.to(noise.device)).to(dtype)

    if name == "ddpm":
        return ddpm(precise, schedule, noise.to(dtype), num_inference_steps, generator, noise_prior)
    if name == "lcm":
        return lcm(precise, schedule, noise.to(dtype), num_inference_steps, generator, noise_prior)
    if name == "ddim":
        return ddim(precise, schedule, noise.to(dtype), num_inference_steps, generator, eta, noise_prior)
    solver, choose_levels = ODE_SAMPLERS[name]
    return solver(precise, schedule, choose_levels(schedule, num_inference_steps), noise.to(dtype))


def sample(
    name: str,
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    noise: Tensor,
    num_inference_steps: int,
    *,
    generator: Generators | None = None,
    eta: float = 0.0,
    noise_prior: NoisePrior = INDEPENDENT,
    callback: Callback | None = None,
) -> Tensor:
    """Turn noise into a clean sample.

    Args:
        name: one of `SAMPLERS`.
        denoiser: the raw network, with conditioning and guidance bound; of schedule.prediction_type. It is given x in
            the dtype of noise; the sampler's own arithmetic is fp32 or better.
        noise: standard normal (B, C, ...).
        num_inference_steps: 1 to schedule.num_train_timesteps.
        generator: of the noise in ddpm and lcm, and in ddim with eta > 0: one, or one per batch item; drawn on the CPU.
        eta: 0 to 1, the share of fresh noise in ddim.
        noise_prior: of the noise drawn here; the caller draws the initial noise from the same one.
        callback: told the index of each finished step, the number of steps, and the estimate of the clean sample.

    Returns:
        The clean sample, shape and dtype of noise.

    Raises:
        InputError: an unknown sampler, a number of steps or an option that the sampler cannot take.
    """
    step = None
    steps = sampling_steps(
        name,
        denoiser,
        schedule,
        noise,
        num_inference_steps,
        generator=generator,
        eta=eta,
        noise_prior=noise_prior,
    )
    for index, step in enumerate(steps):
        if callback is not None:
            callback(index, num_inference_steps, step.x0.to(noise.dtype))
    assert step is not None, "a sampler makes at least one step"
    return step.x.to(noise.dtype)
