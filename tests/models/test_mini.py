"""The embedded model: a plain Stable Diffusion folder to others, and within its size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import t2v
from t2v.diffusion.guidance import batched_guidance
from t2v.diffusion.sampling import sample
from t2v.diffusion.schedule import NoiseSchedule
from t2v.evaluation.frame_metrics import psnr
from t2v.models.folder import load_components
from t2v.pipelines.inspection import inspect_model
from t2v.pipelines.interpolation.diffusion import FillSettings, load_interpolation

ZOO = Path(t2v.__file__).parent / "zoo"
PROMPT = "a robot dancing in Times Square"
NUM_STEPS, GUIDANCE_SCALE = 5, 4.0


@pytest.fixture(scope="module")
def mini():
    return load_components("mini", None, torch.float32, torch.device("cpu"))


def our_image(mini, latents):
    """Decoded picture (1, 3, H, W) in [-1, 1] from initial noise (1, C, h, w), through the image path."""
    negative_prompt_embeds, prompt_embeds = mini.text_encoder.encode(["", PROMPT]).chunk(2)
    denoiser = batched_guidance(mini.unet, prompt_embeds, negative_prompt_embeds, GUIDANCE_SCALE)
    schedule = NoiseSchedule.from_config(mini.scheduler)
    clean = sample("ddim", denoiser, schedule, latents, NUM_STEPS)
    return mini.autoencoder.decode(clean / mini.autoencoder.config.scaling_factor)


@torch.inference_mode()
def test_mini_gives_diffusers_the_same_image(mini):
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.StableDiffusionPipeline.from_pretrained(ZOO / "mini", torch_dtype=torch.float32)
    peer.set_progress_bar_config(disable=True)
    assert type(peer.scheduler).__name__ == "DDIMScheduler"
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    theirs = peer(
        PROMPT,
        latents=latents.clone(),
        height=128,
        width=128,
        num_inference_steps=NUM_STEPS,
        guidance_scale=GUIDANCE_SCALE,
        output_type="pt",
    ).images
    ours = (our_image(mini, latents) / 2 + 0.5).clamp(0, 1)
    assert ours.std() > 0.05, "a flat picture proves nothing"
    assert (ours - theirs).abs().max() <= 1e-4


def test_mini_fits_its_share_of_the_repository():
    sizes = {file: file.stat().st_size for file in (ZOO / "mini").rglob("*.safetensors")}
    of_interpolation = sum(size for file, size in sizes.items() if file.parent.name == "interpolation")
    assert sum(sizes.values()) <= 60 * 2**20, sizes
    assert sum(sizes.values()) - of_interpolation <= 45 * 2**20, sizes


def test_mini_knows_the_words_of_the_readme(mini):
    assert mini.vocabulary is not None
    assert {"robot", "dancing", "times", "square", "cat", "jumping", "beach"} <= set(mini.vocabulary)


def test_mini_asks_its_image_model_what_the_text_changes():
    """Its temporal layers never saw a text."""
    assert inspect_model("mini").settings.guidance == "image"


def test_mini_keeps_its_backgrounds_steady():
    assert inspect_model("mini").settings.deflicker == 0.1


def test_mini_temporal_layers_are_not_at_identity(mini):
    config = json.loads((ZOO / "mini" / "motion" / "config.json").read_text())
    assert config["scheduler"] == mini.motion_scheduler
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(1, 4, 8, 16, 16, generator=generator)
    embeds = mini.text_encoder.encode([PROMPT])
    with torch.inference_mode():
        moving = mini.unet(video, 500, embeds, fps=8.0)
        frames = torch.stack([mini.unet(video[:, :, i], 500, embeds) for i in range(8)], dim=2)
    assert (moving - frames).abs().mean() > 0.01, "temporal layers at identity"


def test_mini_makes_frames_between_that_belong_to_their_neighbours():
    """Between two equal pictures stands about that picture, and nothing like another one."""
    fill = load_interpolation("mini", "cpu", "fp32", settings=FillSettings(num_inference_steps=8))
    ramp = np.linspace(30, 220, 128).astype(np.uint8)
    sky = np.stack(np.broadcast_arrays(ramp[:, None], 120, 255 - ramp[:, None]), -1).repeat(128, 1).astype(np.uint8)
    grass = sky[::-1].copy()
    for own, other in ((sky, grass), (grass, sky)):
        made = fill(np.stack([own, own]), [0.0, 1.0], [0.25, 0.5, 0.75])
        assert psnr(made, np.stack([own] * 3)) > 24 > psnr(made, np.stack([other] * 3)) + 10
