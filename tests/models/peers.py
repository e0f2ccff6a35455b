"""Models of other libraries with random weights, in small sizes that their own software writes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from t2v.models.text_encoder import save_tokenizer, train_tokenizer

PROMPT = "a robot dancing in times square"
CAPTIONS = [PROMPT, "a cat jumping on the beach"]
MAX_LENGTH = 16
SD1: dict[str, Any] = {
    "unet": {"block_out_channels": (32, 64), "attention_head_dim": 8, "cross_attention_dim": 32},
    "text": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 1, "hidden_act": "quick_gelu"},
}
SD2: dict[str, Any] = {
    "unet": {
        "block_out_channels": (64, 128),
        "attention_head_dim": (1, 2),
        "cross_attention_dim": 64,
        "use_linear_projection": True,
    },
    "text": {"hidden_size": 64, "num_hidden_layers": 23, "num_attention_heads": 1, "hidden_act": "gelu"},
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def randomise(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights none of which is zero or one, so that a forgotten one is seen."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def make_pipeline(kind: dict[str, Any]) -> Any:
    """diffusers' StableDiffusionPipeline of a kind, `SD1` or `SD2`."""
    diffusers = pytest.importorskip("diffusers")
    tokenizer = train_tokenizer(CAPTIONS, 540, MAX_LENGTH)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            **kind["unet"],
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            sample_size=16,
        )
        width = kind["text"]["hidden_size"]
        special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            intermediate_size=2 * width,
            max_position_embeddings=MAX_LENGTH,
            **special,
            **kind["text"],
        )
        text_encoder = CLIPTextModel(config)
    if kind is SD2:
        tokenizer.pad_token = "!"
    return diffusers.StableDiffusionPipeline(
        vae=randomise(vae),
        text_encoder=randomise(text_encoder),
        tokenizer=tokenizer,
        unet=randomise(unet),
        scheduler=diffusers.DDIMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_video_unet(**changes: Any) -> Any:
    """diffusers' UNet3DConditionModel, the U-Net of ModelScope and zeroscope, to go with `SD2`."""
    diffusers = pytest.importorskip("diffusers")
    options: dict[str, Any] = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
        "cross_attention_dim": 64,
        "attention_head_dim": 8,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomise(diffusers.UNet3DConditionModel(**{**options, **changes}))


def make_video_pipeline() -> Any:
    """diffusers' TextToVideoSDPipeline."""
    diffusers = pytest.importorskip("diffusers")
    image = make_pipeline(SD2)
    parts = {name: getattr(image, name) for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    return diffusers.TextToVideoSDPipeline(unet=make_video_unet(), **parts)


def save_video_pipeline(folder: Path) -> Path:
    """A folder of ModelScope's kind, written by diffusers; its tokenizer in the files that every version reads."""
    pipe = make_video_pipeline()
    pipe.save_pretrained(folder)
    save_tokenizer(pipe.tokenizer, folder / "tokenizer")
    return folder


def save_pipeline(kind: dict[str, Any], folder: Path) -> Path:
    """A model folder of a kind, written by diffusers; its tokenizer in the files that every version reads."""
    pipe = make_pipeline(kind)
    pipe.save_pretrained(folder)
    save_tokenizer(pipe.tokenizer, folder / "tokenizer")
    return folder


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference over the largest value."""
    return ((got - expected).abs().max() / expected.abs().max()).item()
