import math

import pytest

from t2v.errors import InputError
from t2v.pipelines.settings import GenerationSettings, check_prompt, check_seed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, "num_frames must be a whole number of at least 1, got 0"),
        ({"num_frames": 2.5}, "num_frames must be a whole number"),
        ({"num_frames": True}, "num_frames must be a whole number"),
        ({"num_inference_steps": 0}, "num_inference_steps must be"),
        ({"height": -8}, "height must be"),
        ({"width": "128"}, "width must be a whole number of at least 1, got '128'"),
        ({"chunk_size": 0}, "chunk_size must be"),
        ({"context_frames": 0}, "context_frames must be"),
        ({"context_frames": 4, "context_overlap": 4}, "context_overlap must be a whole number below context_frames 4"),
        ({"context_overlap": -1}, "context_overlap must be"),
        ({"fps": 0}, "fps must be above 0 and at most 240, got 0"),
        ({"fps": -3}, "fps must be above 0"),
        ({"fps": 1000}, "fps must be above 0 and at most 240"),
        ({"fps": math.nan}, "fps must be a finite number"),
        ({"guidance": "text"}, "unknown guidance 'text'; known are video, image"),
        ({"motion_guidance": -1}, "motion_guidance must be at least 0, got -1"),
        ({"guidance_scale": -1}, "guidance_scale must be at least 0, got -1"),
        ({"guidance_scale": math.inf}, "guidance_scale must be a finite number"),
        ({"guidance_rescale": 1.5}, "guidance_rescale must be from 0 to 1, got 1.5"),
        ({"shared_noise": 1}, "shared_noise must be from 0 to below 1, got 1"),
        ({"shared_noise": -0.1}, "shared_noise must be"),
        ({"noise_prior": "pink"}, "unknown noise_prior 'pink'; known are mixed, progressive"),
        ({"deflicker": -0.1}, "deflicker must be from 0 to 10, got -0.1"),
        ({"deflicker": 1e200}, "deflicker must be from 0 to 10"),
        ({"deflicker": 1e-30}, "deflicker must be 0, for none, or at least 0.001, got 1e-30"),
        ({"sampler": 3}, "sampler must be text"),
        ({"timestep_spacing": "even"}, "unknown timestep_spacing 'even'; known are leading, trailing, linspace"),
        ({"negative_prompt": None}, "negative_prompt must be text"),
        ({"prompt_at": {0: "a cat"}}, "prompt_at gives frame 0 a prompt"),
        ({"prompt_at": {-1: "a cat"}}, "prompt_at must give prompts by frame numbers"),
        ({"prompt_at": {"1.5": "a cat"}}, "prompt_at must give prompts by frame numbers"),
        ({"prompt_at": ["a cat"]}, "prompt_at must give prompts by frame numbers"),
        ({"prompt_at": {3: " "}}, "the prompt is empty"),
    ],
)
def test_generation_settings_refuses_values_out_of_range(options, message):
    with pytest.raises(InputError, match="^" + message):
        GenerationSettings(**options)


def test_check_options_names_unknown_setting_and_its_source():
    with pytest.raises(InputError, match=r"x\.json has the unknown setting 'steps'; known are num_frames, fps"):
        GenerationSettings.check_options({"steps": 3}, "x.json")


def test_check_options_returns_valid_options_unchanged():
    options = {"num_frames": 4, "fps": 12.5}
    assert GenerationSettings.check_options(options, "x.json") == options


@pytest.mark.parametrize(
    ("size", "multiple", "advice"), [(130, 8, "128 or 136"), (5, 8, "use 8"), (127, 16, "112 or 128")]
)
def test_check_size_suggests_nearest_sizes(size, multiple, advice):
    with pytest.raises(InputError, match=f"width {size} is not a multiple of {multiple}.*{advice}"):
        GenerationSettings(height=multiple, width=size).check_size(multiple)


def test_prompts_of_frames_are_in_order_and_in_the_video():
    settings = GenerationSettings(num_frames=8, prompt_at={"7": "a cat", 2: "a dog"})
    assert list(settings.prompt_at.items()) == [(2, "a dog"), (7, "a cat")]
    settings.check_frames()
    with pytest.raises(InputError, match="gives frame 7 a prompt, the video has frames 0 to 6"):
        GenerationSettings(num_frames=7, prompt_at={7: "a cat"}).check_frames()


def test_check_size_accepts_multiples():
    GenerationSettings(height=64, width=128).check_size(64)


@pytest.mark.parametrize("prompt", ["", "  \n", None])
def test_check_prompt_refuses_nothing(prompt):
    with pytest.raises(InputError, match="the prompt is empty"):
        check_prompt(prompt)


@pytest.mark.parametrize(("seed", "num_videos"), [(-1, 1), (2**63, 1), (2**63 - 1, 2), (1.5, 1), (0, 0)])
def test_check_seed_refuses_what_a_generator_cannot_take(seed, num_videos):
    with pytest.raises(InputError, match="must be a whole number"):
        check_seed(seed, num_videos)


def test_check_seed_accepts_largest():
    check_seed(2**63 - 1)
