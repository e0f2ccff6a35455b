"""Fixtures shared by several packages: a complete model folder, tiny and random.

The Triton kernels run in triton's interpreter where there is no GPU; triton reads the switch when it is imported.
"""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

CAPTIONS = (
    "a robot dancing in times square",
    "a cat jumping on the beach",
    "the red car is driving through a forest at night",
)
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def write_tiny_model(folder: Path, motion: bool = True) -> Path:
    """Write a model folder of random weights: 32x32 pixels (latents 8x8), 4 frames at 8 fps, 3 steps of Euler."""

    from t2v.models.autoencoder import AutoencoderConfig, AutoencoderKL
    from t2v.models.base import save_json
    from t2v.models.folder import save_model_folder
    from t2v.models.inflate import inflate, temporal_parameters
    from t2v.models.text_encoder import new_text_encoder, split_words, train_tokenizer
    from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = train_tokenizer(CAPTIONS, vocab_size=600, max_length=16)
        text_encoder = new_text_encoder(tokenizer, 16, 1, 2, generator)
        autoencoder = AutoencoderKL(AutoencoderConfig(block_out_channels=(8, 8, 8), norm_num_groups=4, sample_size=32))
        unet = VideoUNet(
            VideoUNetConfig(
                sample_size=8,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                block_out_channels=(8, 16),
                layers_per_block=1,
                norm_num_groups=4,
                cross_attention_dim=16,
                attention_head_dim=2,
            )
        )
    if motion:
        inflate(unet, MotionConfig(num_frames=4), generator)
        for parameter in temporal_parameters(unet).values():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    vocabulary = {word for caption in CAPTIONS for word in split_words(caption)}
    save_model_folder(folder, unet, autoencoder, text_encoder, SCHEDULER, vocabulary=vocabulary)
    save_json(folder / "generation_config.json", {"num_inference_steps": 3, "sampler": "euler", "guidance_scale": 3.0})
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with motion; read only."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder without motion; read only."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-image", motion=False)


@pytest.fixture(scope="session")
def sd1_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Stable Diffusion 1 folder that diffusers wrote; read only."""
    from tests.models.peers import SD1, save_pipeline

    return save_pipeline(SD1, tmp_path_factory.mktemp("peers") / "sd1")


@pytest.fixture(scope="session")
def sd2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Stable Diffusion 2 folder that diffusers wrote; read only."""
    from tests.models.peers import SD2, save_pipeline

    return save_pipeline(SD2, tmp_path_factory.mktemp("peers") / "sd2")


@pytest.fixture(scope="session")
def modelscope_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text-to-video folder of ModelScope's kind that diffusers wrote; read only."""
    from tests.models.peers import save_video_pipeline

    return save_video_pipeline(tmp_path_factory.mktemp("peers") / "modelscope")
