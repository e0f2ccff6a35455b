import itertools

import pytest
import torch
from torch import Tensor

from t2v.diffusion.known_frames import put_back, two_scale_guidance, x0_to_output
from t2v.diffusion.sampling import SAMPLERS, sampling_steps
from t2v.diffusion.schedule import NoiseSchedule, output_to_x0


def parts(x: Tensor, timestep: Tensor, shown: Tensor, mask: Tensor, embeds: Tensor, /) -> Tensor:
    """A network whose output tells what it was given: x + 10 * shown + 100 * mask + 1000 * text."""
    text = embeds.mean(dim=(1, 2))[:, None, None, None, None]
    return x + 10 * shown + 100 * mask[:, None, :, None, None] + 1000 * text


@pytest.mark.parametrize(("frames", "text"), list(itertools.product([0.0, 1.0, 1.5], [0.0, 1.0, 3.0])))
@pytest.mark.parametrize("with_text", [True, False])
def test_two_scale_guidance_is_its_formula(frames: float, text: float, with_text: bool) -> None:
    x, known = torch.randn(1, 2, 3, 4, 4, dtype=torch.float64), torch.randn(1, 2, 3, 4, 4, dtype=torch.float64)
    mask = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    null = torch.zeros(1, 2, 5, dtype=torch.float64)
    prompt = torch.ones(1, 2, 5, dtype=torch.float64) if with_text else null
    timestep, zero = torch.tensor(3), torch.zeros_like(known)
    e00, ef0, efy = (
        parts(x, timestep, *arguments)
        for arguments in ((zero, mask * 0, null), (known, mask, null), (known, mask, prompt))
    )
    expected = e00 + frames * (ef0 - e00) + text * (efy - ef0)
    torch.testing.assert_close(
        two_scale_guidance(parts, known, mask, prompt, null, frames, text)(x, timestep), expected
    )


def test_two_scale_guidance_leaves_out_what_has_no_effect() -> None:
    sizes = []

    def network(x: Tensor, *arguments: Tensor) -> Tensor:
        sizes.append(len(x))
        return x

    x, mask, null, prompt = torch.zeros(1, 2, 3, 4, 4), torch.ones(1, 3), torch.zeros(1, 2, 5), torch.ones(1, 2, 5)
    for embeds, frames, text in ((null, 1.0, 7.0), (null, 1.5, 7.0), (prompt, 1.0, 1.0), (prompt, 1.5, 3.0)):
        two_scale_guidance(network, x, mask, embeds, null, frames, text)(x, torch.tensor(0))
    assert sizes == [1, 2, 1, 3]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample", "flow"])
def test_x0_to_output_inverts_output_to_x0(prediction_type: str) -> None:
    x, x0 = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    alpha, sigma = (0.7, 0.3) if prediction_type == "flow" else (0.8, 0.6)
    output = x0_to_output(x, x0, alpha, sigma, prediction_type)  # type: ignore[arg-type]
    torch.testing.assert_close(output_to_x0(x, output, alpha, sigma, prediction_type), x0)  # type: ignore[arg-type]


SCHEDULES = {
    "v, zero terminal": NoiseSchedule(
        beta_schedule="scaled_linear", rescale_betas_zero_snr=True, prediction_type="v_prediction"
    ),
    "epsilon": NoiseSchedule(beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False),
    "flow": NoiseSchedule(prediction_type="flow", timestep_spacing="linspace"),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_estimate_and_end_on_the_known_frames(sampler: str, schedule: NoiseSchedule) -> None:
    if schedule.prediction_type == "flow" and sampler in ("ddpm", "ddim", "lcm", "dpmpp_2m_karras"):
        pytest.skip("not defined for flow")
    if sampler == "dpmpp_2m_karras":
        pytest.skip("its network is told the nearest timestep, not the true level")
    generator = torch.Generator().manual_seed(0)
    known, noise = (torch.randn(1, 2, 4, 3, 3, generator=generator) for _ in range(2))
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0]])

    def nonsense(x: Tensor, timestep: Tensor, /) -> Tensor:
        return x.roll(1, dims=2) * 0.1

    denoiser = put_back(nonsense, schedule, known, mask)
    steps = list(sampling_steps(sampler, denoiser, schedule, noise, 8, generator=generator))
    for step in steps:
        torch.testing.assert_close(step.x0[:, :, [0, 3]], known[:, :, [0, 3]], atol=2e-3, rtol=2e-3)
    tolerance = 0.06 if sampler in ("ddpm", "ddim") and not schedule.set_alpha_to_one else 2e-3
    torch.testing.assert_close(steps[-1].x[:, :, [0, 3]], known[:, :, [0, 3]], atol=tolerance, rtol=tolerance)
    assert (steps[-1].x - known)[:, :, 1:3].abs().mean() > 0.1
