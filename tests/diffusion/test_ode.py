"""ODE samplers against the closed-form solution for Gaussian data.

For data N(0, s^2) the ideal estimate is E[x_0 | x] = x * alpha * s^2 / (alpha^2 * s^2 + sigma^2), and the ODE keeps
x / sqrt(alpha^2 * s^2 + sigma^2) constant.
"""

import itertools
import math

import pytest
import torch

from t2v.diffusion.levels import Levels, levels_from_ratios, multistep_levels, sigma_levels
from t2v.diffusion.ode import dpmpp_2m, euler, heun
from t2v.diffusion.sampling import sample
from t2v.diffusion.schedule import NoiseSchedule

DEVIATION = 0.5


def spread(alpha, sigma):
    return math.sqrt(alpha**2 * DEVIATION**2 + sigma**2)


def ideal_output(x, alpha, sigma, prediction_type):
    x0 = x * alpha * DEVIATION**2 / spread(alpha, sigma) ** 2
    epsilon = x * sigma / spread(alpha, sigma) ** 2
    return {"epsilon": epsilon, "v_prediction": alpha * epsilon - sigma * x0, "sample": x0, "flow": epsilon - x0}[
        prediction_type
    ]


def smooth_levels(num_steps, flow):
    """Levels as a smooth function of the step, and below them the clean sample, which the tests leave out."""
    ramp = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    indices = torch.arange(num_steps + 1)
    if flow:
        sigmas = 1 - 0.9 * ramp
        return Levels(indices, [*(1 - sigmas).tolist(), 1.0], [*sigmas.tolist(), 0.0])
    return levels_from_ratios(indices, 10 * torch.exp(-4 * ramp))


def solution_error(solver, prediction_type, num_steps):
    """Relative error at the last level but the clean one, from an exact start."""
    schedule = NoiseSchedule(prediction_type=prediction_type, timestep_spacing="leading")
    levels = smooth_levels(num_steps, prediction_type == "flow")

    def denoiser(x, timestep):
        index = int(timestep)
        return ideal_output(x, levels.alphas[index], levels.sigmas[index], prediction_type)

    start = torch.ones(1, 1, dtype=torch.float64)
    x = [step.x.item() for step in solver(denoiser, schedule, levels, start)][num_steps - 1]
    expected = spread(levels.alphas[-2], levels.sigmas[-2]) / spread(levels.alphas[0], levels.sigmas[0])
    return abs(x / expected - 1)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample", "flow"])
@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, 2)])
def test_solver_converges_with_its_order(solver, order, prediction_type):
    errors = [solution_error(solver, prediction_type, num_steps) for num_steps in (80, 160, 320, 640)]
    assert errors[-1] < (1e-2 if order == 1 else 1e-4)
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.1)
    assert all(value > order - 0.25 for value in orders)


def expected_end(levels, start):
    """The exact solution at the last noisy level, then the ideal estimate there: what the last step must return."""
    last_alpha, last_sigma = levels.alphas[-2], levels.sigmas[-2]
    x = start * spread(last_alpha, last_sigma) / spread(levels.alphas[0], levels.sigmas[0])
    return ideal_output(x, last_alpha, last_sigma, "sample")


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("name", "tolerance"), [("euler", 2e-2), ("heun", 2e-3), ("dpmpp_2m", 6e-3)])
@pytest.mark.parametrize(
    "schedule_options",
    [
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
        {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"prediction_type": "flow"},
        {"prediction_type": "flow", "shift": 3.0},
    ],
    ids=["scaled_linear", "cosine", "zero_snr", "flow", "flow_shifted"],
)
def test_sample_solves_the_ode_of_a_schedule(schedule_options, name, tolerance, spacing):
    schedule = NoiseSchedule(timestep_spacing=spacing, **schedule_options)
    levels = (multistep_levels if name == "dpmpp_2m" else sigma_levels)(schedule, 200)
    level_of = {timestep: index for index, timestep in enumerate(levels.timesteps.tolist())}

    def denoiser(x, timestep):
        index = level_of[timestep.item()]
        return ideal_output(x, levels.alphas[index], levels.sigmas[index], schedule.prediction_type)

    result = sample(name, denoiser, schedule, torch.ones(1, 1, dtype=torch.float64), 200).item()
    start = 1.0 if name == "dpmpp_2m" or spacing == "leading" else levels.sigmas[0]
    assert result == pytest.approx(expected_end(levels, start), rel=tolerance)


@pytest.mark.parametrize("solver", [euler, heun, dpmpp_2m])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "flow"])
def test_solver_starts_from_pure_noise_without_a_singularity(solver, prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    name = solver.__name__
    noise = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert sample(name, lambda x, timestep: -0.5 * x, schedule, noise, 8).isfinite().all()


@pytest.mark.parametrize(("name", "calls"), [("euler", 7), ("heun", 13), ("dpmpp_2m", 7), ("dpmpp_2m_karras", 7)])
def test_sampler_calls_the_network_no_more_than_it_says(name, calls):
    timesteps = []

    def denoiser(x, timestep):
        timesteps.append(timestep.item())
        return torch.zeros_like(x)

    sample(name, denoiser, NoiseSchedule(timestep_spacing="linspace"), torch.ones(1, 1), 7)
    assert len(timesteps) == calls
    assert timesteps == sorted(timesteps, reverse=True)
