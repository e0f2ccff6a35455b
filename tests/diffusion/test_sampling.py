"""Every sampler against the diffusers scheduler of the same name and configuration, step for step."""

import itertools
import sys

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
)
from diffusers.utils import logging

from t2v.diffusion.levels import karras_levels
from t2v.diffusion.sampling import SAMPLERS, sample, sampling_steps
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError

PEERS = {
    "ddpm": (DDPMScheduler, {}),
    "ddim": (DDIMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "lcm": (LCMScheduler, {}),
}
DRAWING = ("ddpm", "ddim", "lcm")  # the peers take a generator
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
logging.set_verbosity_error()
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def toy_network(x, timestep):
    """Any smooth function of the sample, its neighbours and the timestep."""
    phase = torch.sin(timestep.to(x) / 300)
    return 0.8 * torch.tanh(0.7 * x.roll(1, 1) + phase) + 0.3 * x


def make_noise(dtype, shape=(2, 4, 3, 4, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


class DoubleTorch:
    """torch with fp64 under the name float32, which some schedulers cast their samples to."""

    def __getattr__(self, name):
        return torch.float64 if name == "float32" else getattr(torch, name)


def peer_steps(name, config, noise, num_steps, monkeypatch, eta=0.0):
    """x after every step of the diffusers scheduler, scaled as its next network input is."""
    scheduler_class, options = PEERS[name]
    scheduler = scheduler_class.from_config({**config, **options})
    scheduler.set_timesteps(num_steps)
    if name in DRAWING:
        options = {"generator": torch.Generator().manual_seed(3)} | ({"eta": eta} if name == "ddim" else {})
    else:
        scheduler.set_begin_index(0)
        scheduler.sigmas = scheduler.sigmas.to(noise.dtype)
        if noise.dtype == torch.float64:
            monkeypatch.setattr(sys.modules[scheduler_class.__module__], "torch", DoubleTorch())
        options = {}
    if name == "dpmpp_2m_karras" and config["beta_schedule"] == "squaredcos_cap_v2":
        # there the peer cuts fractional timesteps off by a cast, where it rounds for all other betas
        scheduler.timesteps = karras_levels(NoiseSchedule.from_config(config), num_steps).timesteps
    x, steps = noise * scheduler.init_noise_sigma, []
    for index, timestep in enumerate(scheduler.timesteps):
        output = toy_network(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(output, timestep, x, **options).prev_sample
        if name == "euler":
            steps.append(x / (scheduler.sigmas[index + 1] ** 2 + 1) ** 0.5)
        elif name != "heun":
            steps.append(x)
        elif scheduler.state_in_first_order or index == len(scheduler.timesteps) - 1:
            steps.append(x / (scheduler.sigmas[scheduler.step_index] ** 2 + 1) ** 0.5)
    return steps


def assert_agrees(name, config, noise, num_steps, monkeypatch, eta=0.0):
    schedule = NoiseSchedule.from_config(config)
    generator = torch.Generator().manual_seed(3)
    ours = list(sampling_steps(name, toy_network, schedule, noise, num_steps, generator=generator, eta=eta))
    theirs = peer_steps(name, config, noise, num_steps, monkeypatch, eta)
    assert len(ours) == len(theirs) == num_steps
    for step, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(step.x, expected, rtol=1e-5, atol=1e-5)


def agreement_cases():
    """Sampler, prediction type, zero-terminal-SNR: where the peer has all three."""
    for name, prediction_type in itertools.product(SAMPLERS, ["epsilon", "v_prediction", "sample"]):
        yield pytest.param(name, prediction_type, False, id=f"{name}-{prediction_type}")
        if prediction_type != "epsilon" and name != "heun":
            yield pytest.param(name, prediction_type, True, id=f"{name}-{prediction_type}-zero_snr")


@pytest.mark.parametrize("num_steps", [1, 4, 13, 30])
@pytest.mark.parametrize(
    ("spacing", "steps_offset"), [("leading", 0), ("leading", 1), ("trailing", 0), ("linspace", 1)]
)
@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize(("name", "prediction_type", "zero_snr"), list(agreement_cases()))
def test_sampler_agrees_with_diffusers(
    name, prediction_type, zero_snr, beta_schedule, spacing, steps_offset, num_steps, monkeypatch
):
    config = STABLE_DIFFUSION | {
        "beta_schedule": beta_schedule,
        "prediction_type": prediction_type,
        "timestep_spacing": spacing,
        "steps_offset": steps_offset,
        "rescale_betas_zero_snr": zero_snr,
        "set_alpha_to_one": bool(steps_offset),
    }
    dtype = torch.float32
    if name not in DRAWING:
        # The peers hold x / alpha in fp32: at sigma / alpha = 4096 that rounding alone is 1e-3.
        dtype = torch.float64
    eta = 0.5 if name == "ddim" and steps_offset else 0.0
    assert_agrees(name, config, make_noise(dtype), num_steps, monkeypatch, eta)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_agrees_with_diffusers_in_single_precision(name, prediction_type, spacing, monkeypatch):
    config = STABLE_DIFFUSION | {"prediction_type": prediction_type, "timestep_spacing": spacing, "steps_offset": 1}
    assert_agrees(name, config, make_noise(torch.float32), 20, monkeypatch)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "heun", "lcm"])
def test_sampler_clips_the_clean_estimate_as_diffusers(name, monkeypatch):
    config = STABLE_DIFFUSION | {"clip_sample": True, "clip_sample_range": 0.5, "timestep_spacing": "leading"}
    assert_agrees(name, config, make_noise(torch.float32), 10, monkeypatch)


@pytest.mark.parametrize("num_steps", [1, 4, 25])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_euler_agrees_with_diffusers_flow_matching(spacing, shift, num_steps):
    schedule = NoiseSchedule(prediction_type="flow", shift=shift, timestep_spacing=spacing)
    peer = FlowMatchEulerDiscreteScheduler(shift=shift)
    last = 1 / num_steps if spacing == "trailing" else 1 / 1000
    peer.set_timesteps(sigmas=torch.linspace(1, last, num_steps).tolist())
    noise = make_noise(torch.float32)
    ours = sampling_steps("euler", lambda x, timestep: toy_network(x, x.mean()), schedule, noise, num_steps)
    x = noise
    for timestep, step in zip(peer.timesteps, ours, strict=True):
        x = peer.step(toy_network(x, x.mean()), timestep, x).prev_sample
        torch.testing.assert_close(step.x, x, rtol=1e-5, atol=1e-5)


def test_lcm_refuses_more_steps_than_were_distilled():
    with pytest.raises(InputError, match="from 1 to 50 with sampler 'lcm'"):
        sample("lcm", toy_network, NoiseSchedule(), make_noise(torch.float32), 51, generator=torch.Generator())


def test_sample_refuses_an_unknown_sampler_and_lists_the_known():
    with pytest.raises(InputError, match="unknown sampler 'plms'; known are ddpm, ddim, euler, heun, dpmpp_2m"):
        sample("plms", toy_network, NoiseSchedule(), make_noise(torch.float32), 5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddim", {"eta": 1.5}, "eta must be from 0 to 1"),
        ("euler", {"eta": 0.5}, "eta is an option of sampler 'ddim'"),
        ("ddpm", {}, "draws noise at every step"),
        ("lcm", {}, "draws noise at every step"),
        ("ddim", {"eta": 0.5}, "draws noise at every step"),
    ],
)
def test_sample_refuses_options_that_do_not_fit(name, options, message):
    with pytest.raises(InputError, match=message):
        sample(name, toy_network, NoiseSchedule(), make_noise(torch.float32), 5, **options)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sample_refuses_zero_steps(name):
    with pytest.raises(InputError, match="num_inference_steps must be"):
        sample(name, toy_network, NoiseSchedule(), make_noise(torch.float32), 0, generator=torch.Generator())


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp_2m_karras", "lcm"])
def test_sample_refuses_a_flow_model_where_the_sampler_has_no_meaning(name):
    schedule = NoiseSchedule(prediction_type="flow")
    with pytest.raises(InputError, match="no meaning for a flow model; use 'euler'"):
        sample(name, toy_network, schedule, make_noise(torch.float32), 5, generator=torch.Generator())


@pytest.mark.parametrize("name", SAMPLERS)
def test_sample_tells_the_callback_every_step(name):
    schedule = NoiseSchedule(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    noise = make_noise(torch.float32)
    seen = []
    result = sample(
        name,
        toy_network,
        schedule,
        noise,
        5,
        generator=torch.Generator().manual_seed(0),
        callback=lambda index, num_steps, x0: seen.append((index, num_steps, x0)),
    )
    assert [entry[:2] for entry in seen] == [(index, 5) for index in range(5)]
    if name != "ddpm":  # whose last timestep, above 0, still draws a noise of 1e-10
        torch.testing.assert_close(seen[-1][2], result)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sample_gives_each_item_the_same_result_in_any_batch(name):
    schedule = NoiseSchedule(beta_schedule="scaled_linear")
    noise = make_noise(torch.float32, (3, 4, 2, 4, 4))
    together, alone = (
        sample(name, toy_network, schedule, items, 5, generator=[torch.Generator().manual_seed(seed) for seed in seeds])
        for items, seeds in ((noise, (7, 8, 9)), (noise[1:2], (8,)))
    )
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sample_runs_the_network_in_the_dtype_of_noise_and_itself_in_single(name):
    schedule = NoiseSchedule(beta_schedule="scaled_linear")
    noise = make_noise(torch.bfloat16)
    given = set()

    def network(x, timestep):
        given.add(x.dtype)
        return toy_network(x, timestep)

    half = sample(name, network, schedule, noise, 10, generator=torch.Generator().manual_seed(0))
    assert given == {torch.bfloat16}
    assert half.dtype == torch.bfloat16
    single = sample(name, toy_network, schedule, noise.float(), 10, generator=torch.Generator().manual_seed(0))
    assert (half.float() - single).abs().mean() < 0.02 * single.abs().mean()
