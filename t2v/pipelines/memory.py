"""How much memory a video takes: a rough count of the largest live tensors, and what to do when it is too much."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderConfig
from t2v.models.unet import VideoUNetConfig
from t2v.pipelines.settings import GenerationSettings

PROCESS_BYTES = 500 * 2**20  # interpreter and libraries
MAX_WHOLE_SIDE = 96  # latent positions along a side; larger frames are decoded in tiles
TILE_SIZE = 64  # latent positions along a side of a tile
LESS_MEMORY = "lower --num-frames, --height and --width, or --chunk-size, or use --dtype bf16"


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the largest moment of each stage."""

    weights: int
    denoise: int
    decode: int
    frames: int

    @property
    def total(self) -> int:
        """Bytes at the largest moment of the whole run, the process itself included."""
        return PROCESS_BYTES + self.weights + self.frames + max(self.denoise, self.decode)


def estimate_memory(
    unet: VideoUNetConfig,
    autoencoder: AutoencoderConfig,
    settings: GenerationSettings,
    num_parameters: int,
    bytes_per_value: int,
) -> MemoryEstimate:
    """Estimate the memory of one video, within about a factor of two.

    With n tokens of c channels at a level of the U-Net, its skip connections hold (layers + 1) n c values each, and the
    layer at work at most 14 n c: the gated feed-forward (12) with its input and residual. Guidance doubles both. The
    decoder's last level holds, for each frame of a chunk, or a tile of it, three tensors of its first width and one of
    its second.
    """
    size = settings.height * settings.width
    factor = 2 ** (len(autoencoder.block_out_channels) - 1)
    latent_size = size // factor**2
    levels = [
        settings.frames_at_once * (latent_size // 4**level) * channels
        for level, channels in enumerate(unet.block_out_channels)
    ]
    skips = sum((unet.layers_per_block + 1) * values for values in levels)
    branches = 1 if settings.guidance_scale == 1 else 2
    first, second = (*autoencoder.block_out_channels, autoencoder.block_out_channels[-1])[:2]
    tile = decoder_tile(settings, factor)
    at_once = size if tile is None else min(settings.height, tile * factor) * min(settings.width, tile * factor)
    decode = min(settings.chunk_size, settings.num_frames) * at_once * (3 * first + second)
    return MemoryEstimate(
        weights=num_parameters * bytes_per_value,
        denoise=branches * (skips + 14 * max(levels)) * bytes_per_value,
        decode=decode * bytes_per_value,
        frames=settings.num_frames * size * 3 * 5,  # float32 from the decoder and the bytes made of it
    )


def decoder_tile(settings: GenerationSettings, factor: int) -> int | None:
    """Side of the decoder's tiles in latent positions of `factor` pixels; None: frames are decoded whole."""
    return TILE_SIZE if max(settings.height, settings.width) > MAX_WHOLE_SIDE * factor else None


def total_memory(device: torch.device) -> int:
    """Bytes of memory that a device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def format_bytes(count: int) -> str:
    """Bytes as people read them, as in "1.4 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


@contextmanager
def explain_out_of_memory(estimate: MemoryEstimate) -> Iterator[None]:
    """Turn what torch raises for lack of memory into an InputError with the estimate and the options that lower it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        phrases = ("out of memory", "DefaultCPUAllocator")
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(phrase in str(error) for phrase in phrases):
            raise
        parts = f"weights {format_bytes(estimate.weights)}, denoising {format_bytes(estimate.denoise)}"
        raise InputError(
            f"out of memory: this takes about {format_bytes(estimate.total)} ({parts}, decoding "
            f"{format_bytes(estimate.decode)}); {LESS_MEMORY}"
        ) from error
