from dataclasses import replace

from t2v.diffusion.schedule import NoiseSchedule
from t2v.pipelines.advice import scheduler_differences, word_advice

SD = NoiseSchedule(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def test_scheduler_differences_ignores_fields_of_sampling():
    assert scheduler_differences(SD, replace(SD, timestep_spacing="trailing", steps_offset=1)) == []


def test_scheduler_differences_names_each_field_with_both_values():
    assert scheduler_differences(SD, replace(SD, beta_schedule="linear", prediction_type="v_prediction")) == [
        "beta_schedule scaled_linear instead of linear",
        "prediction_type epsilon instead of v_prediction",
    ]


def test_scheduler_differences_reads_defaults_of_a_sparse_config():
    full = NoiseSchedule.from_config({"_class_name": "DDIMScheduler", "prediction_type": "epsilon"})
    assert scheduler_differences(NoiseSchedule.from_config({}), full) == []


def test_word_advice_quotes_each_word():
    assert word_advice("mini", ["dragon", "moat"]).startswith('mini never saw "dragon", "moat" in training')
