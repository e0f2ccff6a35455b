"""How much memory a video takes: a rough count of the largest live tensors, and what to do when it is too much."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from t2v.errors import InputError
from t2v.models.autoencoder_base import AutoencoderBaseConfig
from t2v.models.unet import VideoUNetConfig
from t2v.pipelines.settings import GenerationSettings

PROCESS_BYTES = 500 * 2**20  # interpreter and libraries
MAX_WHOLE_SIDE = 96  # latent positions along a side; larger frames are decoded in tiles
TILE_SIZE = 64  # latent positions along a side of a tile
LESS_MEMORY = (
    "use --max-vram 8GB to have what fits picked, or --offload model or sequential, a lower --chunk-size, "
    "--attention-chunk-size or --tile-size, --dtype bf16, or fewer --num-frames and a smaller --height and --width"
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the device at the largest moment of each stage."""

    weights: tuple[int, int, int]  # while the prompt is encoded, while denoising, while decoding
    denoise: int
    decode: int
    frames: int  # that are done, in the decoder's precision, in float32 and as bytes

    @property
    def total(self) -> int:
        """Bytes at the largest moment of the whole run, the process itself included."""
        stages = zip(self.weights, (0, self.denoise, self.decode + self.frames), strict=True)
        return PROCESS_BYTES + max(map(sum, stages))

    def __str__(self) -> str:
        parts = f"weights {format_bytes(max(self.weights))}, denoising {format_bytes(self.denoise)}"
        return f"about {format_bytes(self.total)} ({parts}, decoding {format_bytes(self.decode)})"


@dataclass(frozen=True)
class Footprint:
    """What of a model decides how much memory a video takes."""

    unet: VideoUNetConfig
    autoencoder: AutoencoderBaseConfig
    num_parameters: Mapping[str, int]  # of text_encoder, unet (with its motion) and vae
    bytes_per_value: int

    def estimate(self, settings: GenerationSettings, offload: str = "none") -> MemoryEstimate:
        """Estimate the memory of one video, within about a factor of two.

        With n tokens of c channels at a level of the U-Net, its skip connections hold (layers + 1) n c values each, and
        the layer at work about 17 n c: the gated feed-forward (12) and what waits beside it. An attention layer in
        chunks of frames takes its share of that, with input and output beside it, until with 7 n c a residual block
        is the largest. Guidance doubles all of it. The autoencoder's last level holds, for each frame of a chunk, or
        a tile of it, three tensors of its first width and one of its second.
        """
        size = settings.height * settings.width
        factor = 2 ** (len(self.autoencoder.block_out_channels) - 1)
        latent_size = size // factor**2
        frames = settings.frames_at_once
        levels = [
            frames * (latent_size // 4**level) * channels for level, channels in enumerate(self.unet.block_out_channels)
        ]
        skips = sum((self.unet.layers_per_block + 1) * values for values in levels)
        share = min(1.0, (settings.attention_chunk_size or frames) / frames)
        at_work = int((17.0 if share == 1 else max(7.0, 2 + 15 * share)) * max(levels))
        branches = 1 if settings.guidance_scale == 1 else 2
        first, second = (*self.autoencoder.block_out_channels, self.autoencoder.block_out_channels[-1])[:2]
        tile = decoder_tile(settings, factor)
        at_once = size if tile is None else min(settings.height, tile * factor) * min(settings.width, tile * factor)
        decode = min(settings.chunk_size, settings.num_frames) * at_once * (3 * first + second)
        return MemoryEstimate(
            weights=self._weights(offload),
            denoise=branches * (skips + at_work) * self.bytes_per_value,
            decode=decode * self.bytes_per_value,
            frames=settings.num_frames * size * 3 * (self.bytes_per_value + 5),
        )

    def _weights(self, offload: str) -> tuple[int, int, int]:
        """Bytes of weights on the device in each stage.

        The largest block of a U-Net of c channels is a residual block after a skip connection: two convolutions (18 and
        9 c^2), a shortcut (2), two convolutions over frames (3 each).
        """
        text, unet, vae = (self.num_parameters[part] * self.bytes_per_value for part in ("text_encoder", "unet", "vae"))
        if offload == "none":
            return (text + unet + vae,) * 3
        if offload == "model":
            return text, unet, vae
        block = 35 * max(self.unet.block_out_channels) ** 2 * self.bytes_per_value
        return min(text, block), min(unet, block), min(vae, block)


def decoder_tile(settings: GenerationSettings, factor: int) -> int | None:
    """Side of the decoder's tiles in latent positions of `factor` pixels; None: frames are decoded whole."""
    if settings.tile_size is not None:
        return settings.tile_size // factor
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
def explain_out_of_memory(needs: MemoryEstimate | str, advice: str = LESS_MEMORY) -> Iterator[None]:
    """Turn what torch raises for lack of memory into an InputError with what is needed and the options that lower it.

    Args:
        needs: what "this takes".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        phrases = ("out of memory", "DefaultCPUAllocator")
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(phrase in str(error) for phrase in phrases):
            raise
        raise InputError(f"out of memory: this takes {needs}; {advice}") from error
