import pytest
import torch

from t2v.diffusion.levels import karras_levels, levels_at, multistep_levels, noise_ratios, sigma_levels
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError

SCHEDULES = {
    "leading": NoiseSchedule(timestep_spacing="leading", steps_offset=1),
    "linspace": NoiseSchedule(timestep_spacing="linspace"),
    "zero_snr": NoiseSchedule(timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True),
    "flow": NoiseSchedule(timestep_spacing="trailing", prediction_type="flow"),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("make_levels", [sigma_levels, multistep_levels, karras_levels])
def test_levels_fall_from_noise_to_the_clean_sample(make_levels, schedule):
    if schedule.prediction_type == "flow" and make_levels is karras_levels:
        with pytest.raises(InputError, match="no meaning for a flow model"):
            make_levels(schedule, 10)
        return
    levels = make_levels(schedule, 10)
    assert len(levels.alphas) == len(levels.sigmas) == levels.num_steps + 1 == 11
    assert levels.sigmas == sorted(levels.sigmas, reverse=True)
    assert (levels.alphas[-1], levels.sigmas[-1]) == (1.0, 0.0)
    assert levels.timesteps.tolist() == sorted(levels.timesteps.tolist(), reverse=True)


def test_levels_at_whole_timesteps_are_the_table():
    schedule = SCHEDULES["linspace"]
    timesteps = torch.tensor([999, 500, 0])
    levels = levels_at(schedule, timesteps)
    assert levels.alphas[:-1] == pytest.approx(schedule.alphas[timesteps].tolist(), rel=1e-12)
    assert levels.sigmas[:-1] == pytest.approx(schedule.sigmas[timesteps].tolist(), rel=1e-12)


def test_levels_at_half_a_timestep_lie_between_their_neighbours():
    schedule = SCHEDULES["linspace"]
    ratios = noise_ratios(schedule)
    levels = levels_at(schedule, torch.tensor([10.5]))
    assert levels.sigmas[0] / levels.alphas[0] == pytest.approx((ratios[10] + ratios[11]).item() / 2)


def test_karras_levels_reach_both_ends_of_the_table():
    schedule = SCHEDULES["leading"]
    levels = karras_levels(schedule, 12)
    assert levels.timesteps[[0, -1]].tolist() == [999, 0]
    ratios = [sigma / alpha for sigma, alpha in zip(levels.sigmas, levels.alphas, strict=True)][:-1]
    roots = torch.tensor(ratios, dtype=torch.float64) ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(11))


def test_noise_ratios_are_finite_without_signal():
    ratios = noise_ratios(SCHEDULES["zero_snr"])
    assert ratios[-1].item() == pytest.approx(4096, rel=1e-6)
    assert ratios.isfinite().all()


def test_multistep_levels_refuse_as_many_steps_as_timesteps():
    with pytest.raises(InputError, match="from 1 to 999"):
        multistep_levels(SCHEDULES["linspace"], 1000)
