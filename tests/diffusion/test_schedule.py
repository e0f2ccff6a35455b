import json
import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from t2v.diffusion.schedule import NoiseSchedule, output_to_epsilon, output_to_x0, posterior
from t2v.errors import InputError

PREDICTION_TYPES = ["epsilon", "v_prediction", "sample", "flow"]
STABLE_DIFFUSION_1 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}


def sample_batch(shape=(4, 3, 2, 5, 5), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(dtype), torch.randn(shape, generator=generator).to(dtype)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_alphas_cumprod_equals_diffusers_bit_for_bit(beta_schedule, zero_snr):
    config = {
        "beta_schedule": beta_schedule,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": zero_snr,
        "prediction_type": "v_prediction",
    }
    schedule = NoiseSchedule.from_config(config)
    peer = DDIMScheduler.from_config(schedule.to_config())
    assert schedule.alphas_cumprod.dtype == torch.float64
    assert torch.equal(schedule.alphas_cumprod, peer.alphas_cumprod.double())
    assert (schedule.alphas_cumprod[-1] == 0) == zero_snr


def test_alphas_cumprod_of_trained_betas_equals_diffusers():
    betas = [0.01, 0.02, 0.3, 0.5]
    schedule = NoiseSchedule.from_config({"trained_betas": betas})
    peer = DDIMScheduler.from_config(schedule.to_config())
    assert schedule.num_train_timesteps == 4
    assert torch.equal(schedule.alphas_cumprod, peer.alphas_cumprod.double())


@pytest.mark.parametrize("num_inference_steps", [1, 3, 7, 13, 48, 50, 500, 999])
@pytest.mark.parametrize("steps_offset", [0, 1])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps_equal_diffusers(spacing, steps_offset, num_inference_steps):
    schedule = NoiseSchedule(timestep_spacing=spacing, steps_offset=steps_offset)
    peer = DDIMScheduler.from_config(schedule.to_config())
    peer.set_timesteps(num_inference_steps)
    assert torch.equal(schedule.timesteps(num_inference_steps), peer.timesteps)


def test_timesteps_of_trailing_spacing_are_as_many_as_asked_for():
    schedule = NoiseSchedule(timestep_spacing="trailing")
    for num_inference_steps in range(1, 1001):
        timesteps = schedule.timesteps(num_inference_steps)
        assert timesteps[0] == 999
        assert timesteps[-1] >= 0
        assert len(timesteps.unique()) == num_inference_steps


@pytest.mark.parametrize("num_inference_steps", [0, -1, 1001])
def test_timesteps_refuses_a_number_outside_the_table(num_inference_steps):
    with pytest.raises(InputError, match="num_inference_steps must be from 1 to 1000"):
        NoiseSchedule().timesteps(num_inference_steps)


def test_timesteps_refuses_an_offset_beyond_the_table():
    with pytest.raises(InputError, match="steps_offset 1"):
        NoiseSchedule(steps_offset=1).timesteps(1000)


def test_from_config_reads_a_stable_diffusion_scheduler():
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION_1)
    assert schedule.prediction_type == "epsilon"
    assert not schedule.set_alpha_to_one
    assert not schedule.clip_sample
    assert schedule.steps_offset == 1
    assert schedule.alphas_cumprod[-1].item() == pytest.approx(0.00466, abs=1e-5)


@pytest.mark.parametrize(
    ("class_name", "field", "value"),
    [
        ("DDPMScheduler", "clip_sample", True),
        ("DDIMScheduler", "set_alpha_to_one", True),
        ("PNDMScheduler", "set_alpha_to_one", False),
        ("EulerDiscreteScheduler", "timestep_spacing", "linspace"),
        ("EulerDiscreteScheduler", "clip_sample", False),
        ("HeunDiscreteScheduler", "beta_end", 0.012),
        ("DPMSolverMultistepScheduler", "timestep_spacing", "linspace"),
        ("FlowMatchEulerDiscreteScheduler", "prediction_type", "flow"),
    ],
)
def test_from_config_uses_the_defaults_of_the_class(class_name, field, value):
    assert getattr(NoiseSchedule.from_config({"_class_name": class_name}), field) == value


def test_from_config_reads_the_flow_words_of_other_schedulers():
    config = {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "flow_shift": 3.0}
    schedule = NoiseSchedule.from_config(config)
    assert (schedule.prediction_type, schedule.shift) == ("flow", 3.0)


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule.from_config(STABLE_DIFFUSION_1),
        NoiseSchedule(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
        NoiseSchedule(variance_type="learned_range", clip_sample=True, clip_sample_range=2.0),
        NoiseSchedule(num_train_timesteps=3, trained_betas=(0.1, 0.2, 0.3)),
        NoiseSchedule(prediction_type="flow", shift=3.0, timestep_spacing="linspace"),
    ],
    ids=["stable_diffusion", "zero_snr", "learned_range", "trained_betas", "flow"],
)
def test_to_config_survives_json(schedule):
    assert NoiseSchedule.from_config(json.loads(json.dumps(schedule.to_config()))) == schedule


def test_to_config_is_read_by_diffusers_classes():
    ddpm = DDPMScheduler.from_config(NoiseSchedule(variance_type="learned_range").to_config())
    assert ddpm.config.variance_type == "learned_range"
    flow = FlowMatchEulerDiscreteScheduler.from_config(NoiseSchedule(prediction_type="flow", shift=3.0).to_config())
    assert flow.config.shift == 3.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"thresholding": True}, "thresholding=true is not supported"),
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting=true is not supported"),
        ({"beta_schedule": "sigmoid"}, "unknown beta_schedule 'sigmoid'; known are linear"),
        ({"prediction_type": "score"}, "unknown prediction_type 'score'"),
        ({"timestep_spacing": "even"}, "unknown timestep_spacing 'even'"),
        ({"variance_type": "learned"}, "unknown variance_type 'learned'"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be at least 1"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps must be at least 1, a whole number, got '1000'"),
        ({"steps_offset": -1}, "steps_offset must be at least 0"),
        ({"beta_start": "small"}, "beta_start must be a positive number, got 'small'"),
        ({"beta_end": float("nan")}, "beta_end must be a positive number, got nan"),
        ({"trained_betas": [0.1, "x"]}, "trained_betas must be numbers from 0 to 1, got 'x'"),
        ({"trained_betas": [0.1], "num_train_timesteps": 2}, "1 trained_betas for num_train_timesteps 2"),
        ({"rescale_betas_zero_snr": True}, "zero terminal SNR with prediction_type 'epsilon' is singular"),
        ({"trained_betas": [0.1, 1.0]}, "zero terminal SNR with prediction_type 'epsilon' is singular"),
    ],
)
def test_from_config_refuses_with_one_line(config, message):
    with pytest.raises(InputError, match=message) as error:
        NoiseSchedule.from_config(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_target_is_inverted_by_to_x0_and_to_epsilon(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    latents, noise = sample_batch(dtype=torch.float64)
    timesteps = torch.tensor([0, 10, 500, 998])
    x = schedule.add_noise(latents, noise, timesteps)
    target = schedule.target(latents, noise, timesteps)
    torch.testing.assert_close(schedule.to_x0(x, target, timesteps), latents, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(schedule.to_epsilon(x, target, timesteps), noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("start", PREDICTION_TYPES)
def test_predictions_convert_into_each_other(start):
    """From any prediction to x0 and epsilon, and from those to the same prediction again."""
    x, output = sample_batch(dtype=torch.float64)
    alpha, sigma = (0.3, 0.7) if start == "flow" else (0.6, 0.8)
    x0 = output_to_x0(x, output, alpha, sigma, start)
    epsilon = output_to_epsilon(x, output, alpha, sigma, start)
    torch.testing.assert_close(alpha * x0 + sigma * epsilon, x)
    again = {
        "epsilon": epsilon,
        "v_prediction": alpha * epsilon - sigma * x0,
        "sample": x0,
        "flow": epsilon - x0,
    }
    torch.testing.assert_close(again[start], output)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_terminal_timestep_without_signal_converts(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type, rescale_betas_zero_snr=True)
    latents, noise = sample_batch()
    timesteps = torch.full((4,), 999)
    x = schedule.add_noise(latents, noise, timesteps)
    target = schedule.target(latents, noise, timesteps)
    assert torch.equal(x, noise)
    torch.testing.assert_close(schedule.to_x0(x, target, timesteps), latents)
    torch.testing.assert_close(schedule.to_epsilon(x, target, timesteps), noise)
    assert schedule.snr(timesteps[:1]).item() == 0


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 5, 5), (4, 3, 2, 5, 5)])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "flow"])
def test_add_noise_and_target_broadcast_over_any_rank(prediction_type, shape):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    latents, noise = sample_batch(shape)
    timesteps = torch.tensor([0, 3, 700, 999])
    for batched in (schedule.add_noise, schedule.target, schedule.to_x0, schedule.to_epsilon):
        single = torch.cat([batched(latents[i : i + 1], noise[i : i + 1], timesteps[i]) for i in range(4)])
        torch.testing.assert_close(batched(latents, noise, timesteps), single)


def test_add_noise_and_target_equal_diffusers():
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION_1 | {"prediction_type": "v_prediction"})
    peer = DDPMScheduler.from_config(schedule.to_config())
    latents, noise = sample_batch()
    timesteps = torch.tensor([0, 3, 700, 999])
    torch.testing.assert_close(schedule.add_noise(latents, noise, timesteps), peer.add_noise(latents, noise, timesteps))
    torch.testing.assert_close(schedule.target(latents, noise, timesteps), peer.get_velocity(latents, noise, timesteps))


def test_add_noise_keeps_half_precision_but_computes_in_single():
    schedule = NoiseSchedule(prediction_type="v_prediction")
    latents, noise = sample_batch(dtype=torch.bfloat16)
    timesteps = torch.tensor([0, 3, 700, 999])
    for function in (schedule.add_noise, schedule.target):
        result = function(latents, noise, timesteps)
        assert result.dtype == torch.bfloat16
        assert torch.equal(result, function(latents.float(), noise.float(), timesteps).bfloat16())


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_sigmas_equal_diffusers(shift):
    schedule = NoiseSchedule(prediction_type="flow", shift=shift)
    peer = FlowMatchEulerDiscreteScheduler(shift=shift)
    torch.testing.assert_close(schedule.sigmas.flip(0).float(), peer.sigmas)
    torch.testing.assert_close(schedule.alphas + schedule.sigmas, torch.ones(1000, dtype=torch.float64))
    assert schedule.sigmas[-1] == 1


def test_snr_is_signal_variance_over_noise_variance():
    schedule = NoiseSchedule()
    alphas_cumprod = schedule.alphas_cumprod[500].item()
    assert schedule.snr(torch.tensor([500])).item() == pytest.approx(alphas_cumprod / (1 - alphas_cumprod), rel=1e-12)
    flow = NoiseSchedule(prediction_type="flow")
    assert flow.snr(torch.tensor([499])).item() == pytest.approx(1.0)


def test_posterior_is_bayes_rule():
    """Mean and variance by multiplying the two Gaussians q(x_t | x_prev) and q(x_prev | x_0)."""
    alpha_bar, alpha_bar_prev, x0, x = 0.3, 0.5, 0.7, -1.1
    x0_coefficient, x_coefficient, variance, beta = posterior(alpha_bar, alpha_bar_prev)
    alpha = alpha_bar / alpha_bar_prev
    precision = alpha / (1 - alpha) + 1 / (1 - alpha_bar_prev)
    weighted = math.sqrt(alpha) * x / (1 - alpha) + math.sqrt(alpha_bar_prev) * x0 / (1 - alpha_bar_prev)
    assert beta == pytest.approx(1 - alpha)
    assert variance == pytest.approx(1 / precision)
    assert x0_coefficient * x0 + x_coefficient * x == pytest.approx(weighted / precision)


def test_split_output_refuses_channels_that_do_not_fit():
    schedule = NoiseSchedule(variance_type="learned_range")
    prediction, fraction = schedule.split_output(torch.zeros(1, 8, 2), 4)
    assert prediction.shape == fraction.shape == (1, 4, 2)
    with pytest.raises(InputError, match="needs 8 output channels"):
        schedule.split_output(torch.zeros(1, 4, 2), 4)
    with pytest.raises(InputError, match="needs 4 output channels"):
        NoiseSchedule().split_output(torch.zeros(1, 8, 2), 4)
