"""Videos of models of ModelScope's kind against diffusers' TextToVideoSDPipeline."""

import pytest
import torch

import t2v
from t2v.diffusion.guidance import batched_guidance
from t2v.diffusion.sampling import sampling_steps
from t2v.errors import InputError
from t2v.pipelines.inspection import inspect_model
from tests.models.peers import PROMPT, relative

diffusers = pytest.importorskip("diffusers")
NUM_FRAMES = 5


@pytest.fixture(scope="module")
def pipe(modelscope_folder):
    return t2v.load(str(modelscope_folder), "cpu", "fp32")


@torch.no_grad()
def test_every_step_is_the_one_of_diffusers(modelscope_folder, pipe):
    peer = diffusers.TextToVideoSDPipeline.from_pretrained(modelscope_folder)
    peer.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, NUM_FRAMES, 8, 8, generator=torch.Generator().manual_seed(0))
    expected: list[torch.Tensor] = []
    options = {"negative_prompt": "a cat", "guidance_scale": 5.0, "num_inference_steps": 4, "output_type": "pt"}
    size = {"height": 16, "width": 16, "num_frames": NUM_FRAMES}
    keep = lambda step, timestep, latents: expected.append(latents.clone())  # noqa: E731
    frames = peer(PROMPT, latents=noise.clone(), callback=keep, **size, **options).frames
    embeds = pipe.text_encoder.encode([PROMPT, "a cat"])
    denoiser = batched_guidance(lambda x, t, text: pipe.unet(x, t, text), embeds[:1], embeds[1:], 5.0)
    steps = [step.x for step in sampling_steps("ddim", denoiser, pipe.schedule, noise, 4)]
    assert len(steps) == len(expected) == 4
    for ours, theirs in zip(steps, expected, strict=True):
        assert relative(ours, theirs) < 1e-4
    video = pipe.autoencoder.decode(steps[-1] / pipe.autoencoder.config.scaling_factor)
    assert (video[0].transpose(0, 1) / 2 + 0.5).clamp(0, 1).sub(frames[0]).abs().max() < 1e-3


def test_frames_and_windows(pipe):
    assert (pipe.defaults.num_frames, pipe.defaults.width) == (16, 16)
    assert pipe.unet.motion.num_frames == 16 and pipe.unet.motion.max_num_frames == 24
    short = {"num_inference_steps": 1, "seed": 1}
    assert pipe(PROMPT, num_frames=24, **short).frames.shape == (24, 16, 16, 3)
    with pytest.warns(UserWarning, match="26 frames, but the motion was trained on 24"):
        whole = pipe(PROMPT, num_frames=26, **short)
    windows = pipe(PROMPT, num_frames=26, context_frames=16, **short)
    assert (windows.frames != whole.frames).any()


def test_what_it_is_made_of(modelscope_folder, pipe):
    found = inspect_model(str(modelscope_folder))
    assert found.kind.startswith(
        "text-to-video model of ModelScope's kind: folder with a UNet3DConditionModel, written by"
    )
    assert found.shapes == "levels of 32, 64 channels; latents of 4 channels of 8x8; text 64 wide"
    counts = {part.name: part.num_parameters for part in found.parts}
    assert counts["unet"] + counts["motion"] == sum(parameter.numel() for parameter in pipe.unet.parameters())
    assert counts["motion"] > counts["unet"] / 3
    assert found.schedule == pipe.schedule


def test_its_temporal_layers_cannot_be_left_out_for_guidance(pipe):
    with pytest.raises(InputError, match="cannot be left out, as --guidance image does: use video"):
        pipe(PROMPT, guidance="image")
