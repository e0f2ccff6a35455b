"""Motion modules and LoRA of few steps: their settings, and videos step by step as diffusers makes them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import t2v
from t2v.models.animatediff_files import write_original
from t2v.models.distilled import LCM, LIGHTNING
from tests.models.peers import PROMPT, relative
from tests.models.test_animatediff import make_adapter

diffusers = pytest.importorskip("diffusers")
NUM_FRAMES = 4


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "v2"
    make_adapter("v2").save_pretrained(folder)
    return folder


def keep_inputs(unet, monkeypatch) -> list[torch.Tensor]:
    """What a U-Net is given from now on."""
    given: list[torch.Tensor] = []
    forward = unet.forward
    monkeypatch.setattr(unet, "forward", lambda x, *args, **options: given.append(x) or forward(x, *args, **options))
    return given


@pytest.mark.parametrize("num_steps", [4, 8])
def test_lightning_is_diffusers_euler_with_its_settings(sd1_folder, adapter, tmp_path, num_steps, monkeypatch):
    path = tmp_path / f"animatediff_lightning_{num_steps}step_comfyui.safetensors"
    write_original(adapter, path)
    pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(path))
    settings = {**LIGHTNING, "num_inference_steps": num_steps}
    assert {name: getattr(pipe.defaults, name) for name in settings} == settings
    assert any(f"{path.name} is distilled" in note for note in pipe.components.notes)
    peer = make_peer(sd1_folder, adapter)
    ours, theirs = keep_inputs(pipe.unet, monkeypatch), keep_inputs(peer.unet, monkeypatch)
    decode = pipe._decode
    monkeypatch.setattr(pipe, "_decode", lambda latents, settings: ours.append(latents) or decode(latents, settings))
    pipe(PROMPT, seed=5, num_frames=NUM_FRAMES)
    noise = torch.randn(1, 4, NUM_FRAMES, 8, 8, generator=torch.Generator().manual_seed(5))
    size = {"height": 16, "width": 16, "num_frames": NUM_FRAMES}
    options = {"guidance_scale": 1.0, "num_inference_steps": num_steps, "output_type": "latent"}
    theirs.append(peer(PROMPT, latents=noise, **size, **options).frames)
    assert len(ours) == len(theirs) == num_steps + 1
    for own, expected in zip(ours, theirs, strict=True):
        assert relative(own, expected) < 1e-4


def make_peer(model: Path, adapter: Path):
    """AnimateDiffPipeline, set up as the model card of AnimateDiff-Lightning says."""
    peer = diffusers.AnimateDiffPipeline.from_pretrained(
        model, motion_adapter=diffusers.MotionAdapter.from_pretrained(adapter), feature_extractor=None
    )
    peer.scheduler = diffusers.EulerDiscreteScheduler.from_config(
        peer.scheduler.config, timestep_spacing="trailing", beta_schedule="linear"
    )
    peer.set_progress_bar_config(disable=True)
    return peer


def test_an_lcm_lora_brings_its_sampler(sd1_folder, adapter, tmp_path):
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    folder = tmp_path / "lcm-lora-sdv1-5"
    folder.mkdir()
    lora = folder / "pytorch_lora_weights.safetensors"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 32), f"{layer}.lora_B.weight": torch.ones(32, 2)}, lora)
    pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(adapter), loras=[f"{lora}:0.5"])
    assert {name: getattr(pipe.defaults, name) for name in LCM} == LCM
    assert any("lcm-lora-sdv1-5 is distilled" in note for note in pipe.components.notes)
    with pytest.warns(UserWarning, match="sampler lcm has timesteps of its own"):
        video = pipe(PROMPT, num_frames=2, timestep_spacing="trailing", num_inference_steps=2)
    assert video.metadata["settings"]["num_inference_steps"] == 2


def test_a_given_spacing_changes_the_timesteps(sd1_folder, adapter, monkeypatch):
    pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(adapter))
    seen = []
    forward = pipe.unet.forward
    monkeypatch.setattr(pipe.unet, "forward", lambda x, t, *a, **k: seen.append(int(t)) or forward(x, t, *a, **k))
    options = {"num_frames": 2, "num_inference_steps": 4, "guidance_scale": 1.0, "sampler": "ddim"}
    pipe(PROMPT, **options)
    pipe(PROMPT, timestep_spacing="trailing", **options)
    assert seen == [751, 501, 251, 1, 999, 749, 499, 249]
