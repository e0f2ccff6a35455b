import pytest

from t2v.models.distilled import LCM, LIGHTNING, find_distilled


@pytest.mark.parametrize(
    ("file", "name", "settings"),
    [
        ("a/animatediff_lightning_4step_comfyui.safetensors", None, {**LIGHTNING, "num_inference_steps": 4}),
        ("a/animatediff_lightning_8step_diffusers.safetensors", None, {**LIGHTNING, "num_inference_steps": 8}),
        ("SD15-2-Steps-Lightning.safetensors", None, {**LIGHTNING, "num_inference_steps": 2}),
        ("AnimateLCM_sd15_t2v_lora.safetensors", None, LCM),
        ("hub/lcm-lora-sdv1-5/pytorch_lora_weights.safetensors", "lcm-lora-sdv1-5", LCM),
        ("wangfuyun/AnimateLCM", None, LCM),
    ],
)
def test_distilled_weights_are_known_by_their_names(file, name, settings):
    found = find_distilled([file])
    assert found is not None
    assert (found.name, found.settings) == (name or file.split("/")[-1], settings)
    assert (
        found.note.startswith(f"{found.name} is distilled, by its name")
        and f"sampler {settings['sampler']}" in found.note
    )


def test_others_are_not_and_the_last_one_counts():
    others = ["", "lcm/mm_sd_v15_v2.safetensors", "lightning_style.safetensors", "filmcm_4step.safetensors"]
    assert find_distilled(others) is None
    found = find_distilled(["lightning_4step.safetensors", "lcm.safetensors", "style.safetensors"])
    assert found is not None and found.settings == LCM
