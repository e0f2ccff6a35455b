"""Videos with AnimateDiff modules against diffusers' AnimateDiffPipeline."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import t2v
from t2v.diffusion.guidance import batched_guidance
from t2v.diffusion.sampling import sampling_steps
from t2v.models.animatediff_files import write_original
from tests.models.peers import PROMPT, relative
from tests.models.test_animatediff import VERSIONS, make_adapter

diffusers = pytest.importorskip("diffusers")
NUM_FRAMES = 6


@pytest.fixture(scope="module", params=VERSIONS)
def adapter(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / request.param
    make_adapter(request.param).save_pretrained(folder)
    return folder


def make_peer(model: Path, adapter: Path):
    """diffusers' pipeline, with the scheduler of AnimateDiff's own configs."""
    peer = diffusers.AnimateDiffPipeline.from_pretrained(
        model, motion_adapter=diffusers.MotionAdapter.from_pretrained(adapter), feature_extractor=None
    )
    peer.scheduler = diffusers.DDIMScheduler.from_config(
        peer.scheduler.config, beta_schedule="linear", clip_sample=False, steps_offset=1
    )
    peer.set_progress_bar_config(disable=True)
    return peer


def own_steps(pipe, noise: torch.Tensor) -> list[torch.Tensor]:
    embeds = pipe.text_encoder.encode([PROMPT, "a cat"])
    denoiser = batched_guidance(lambda x, t, text: pipe.unet(x, t, text), embeds[:1], embeds[1:], 5.0)
    return [step.x for step in sampling_steps("ddim", denoiser, pipe.schedule, noise, 4)]


def peer_steps(peer, noise: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    steps = []

    def keep(pipe, index, timestep, values):
        steps.append(values["latents"].clone())
        return {}

    size = {"height": 16, "width": 16, "num_frames": NUM_FRAMES}
    options = {"negative_prompt": "a cat", "guidance_scale": 5.0, "num_inference_steps": 4, "output_type": "pt"}
    frames = peer(PROMPT, latents=noise.clone(), callback_on_step_end=keep, **size, **options).frames
    return steps, frames


@torch.no_grad()
def test_every_step_is_the_one_of_diffusers(sd1_folder, adapter):
    peer = make_peer(sd1_folder, adapter)
    noise = torch.randn(1, 4, NUM_FRAMES, 8, 8, generator=torch.Generator().manual_seed(0))
    expected, frames = peer_steps(peer, noise)
    pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(adapter))
    steps = own_steps(pipe, noise)
    assert len(steps) == len(expected) == 4
    for ours, theirs in zip(steps, expected, strict=True):
        assert relative(ours, theirs) < 1e-4
    video = pipe.autoencoder.decode(steps[-1] / pipe.autoencoder.config.scaling_factor)
    assert (video[0].transpose(0, 1) / 2 + 0.5).clamp(0, 1).sub(frames[0]).abs().max() < 1e-3


@torch.no_grad()
def test_a_motion_lora_changes_what_it_changes_in_diffusers(sd1_folder, tmp_path):
    adapter = tmp_path / "adapter"
    make_adapter("v2").save_pretrained(adapter)
    generator = torch.Generator().manual_seed(0)
    weights, original = {}, {}
    peer = make_peer(sd1_folder, adapter)
    for name, layer in peer.unet.named_modules():
        if "motion_modules" in name and name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            shapes = (2, layer.in_features), (layer.out_features, 2)
            down, up = (0.3 * torch.randn(shape, generator=generator) for shape in shapes)
            weights |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
            block, projection = name.removesuffix(".0").rsplit(".", 1)
            block = block.replace(".transformer_blocks", ".temporal_transformer.transformer_blocks")
            block = block.replace("attn1", "attention_blocks.0").replace("attn2", "attention_blocks.1")
            original[f"{block}.processor.{projection}_lora.down.weight"] = down
            original[f"{block}.processor.{projection}_lora.up.weight"] = up
    save_file(weights, tmp_path / "lora.safetensors")
    save_file(original, tmp_path / "original.safetensors")
    noise = torch.randn(1, 4, NUM_FRAMES, 8, 8, generator=generator)
    plain, _ = peer_steps(peer, noise)
    peer.load_lora_weights(tmp_path, weight_name="lora.safetensors", adapter_name="a")
    peer.set_adapters(["a"], [0.7])
    expected, _ = peer_steps(peer, noise)
    assert relative(plain[-1], expected[-1]) > 1e-3
    for file in ("lora", "original"):
        pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(adapter), loras=[f"{tmp_path / file}.safetensors:0.7"])
        assert len(pipe.components.notes) == 2
        assert relative(own_steps(pipe, noise)[-1], expected[-1]) < 1e-4


def test_the_scheduler_is_set_and_said(sd1_folder, adapter):
    pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(adapter))
    assert (pipe.schedule.beta_schedule, pipe.schedule.steps_offset, pipe.schedule.clip_sample) == ("linear", 1, False)
    assert f"{adapter.name} is AnimateDiff {adapter.name}: the scheduler is set to linear" in pipe.components.notes[0]
    assert pipe.defaults.num_frames == 16
    assert pipe.components.motion_path == str(adapter)


def test_longer_videos_are_made_in_windows(sd1_folder, tmp_path):
    make_adapter("v1").save_pretrained(tmp_path)
    pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(tmp_path))
    assert pipe.defaults.context_frames == 16
    lengths = []
    forward = pipe.unet.forward
    pipe.unet.forward = lambda x, *args, **options: lengths.append(x.shape[2]) or forward(x, *args, **options)
    options = {"num_frames": 40, "height": 16, "width": 16, "num_inference_steps": 1}
    video = pipe(PROMPT, **options)
    assert video.frames.shape == (40, 16, 16, 3)
    assert lengths == [16] * 3
    whole = pipe(PROMPT, context_frames=None, **options)
    assert lengths == [16] * 3 + [40]
    assert (whole.frames != video.frames).any()
    assert pipe.memory(pipe.defaults).denoise == pipe.memory(replace(pipe.defaults, num_frames=40)).denoise


def test_animate_lcm_has_its_sampler(sd1_folder, tmp_path):
    make_adapter("v3").save_pretrained(tmp_path / "adapter")
    write_original(tmp_path / "adapter", tmp_path / "mm.safetensors")
    bare = {name: tensor for name, tensor in load_file(tmp_path / "mm.safetensors").items() if not name.endswith(".pe")}
    save_file(bare, tmp_path / "lcm.safetensors")
    pipe = t2v.load(str(sd1_folder), "cpu", "fp32", str(tmp_path / "lcm.safetensors"))
    assert (pipe.defaults.sampler, pipe.defaults.num_inference_steps, pipe.defaults.guidance_scale) == ("lcm", 6, 2.0)
    assert pipe(PROMPT, num_frames=2, height=16, width=16).frames.shape == (2, 16, 16, 3)
