"""Latents of a data set, computed once through the frozen autoencoder and kept on disk in fp16."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2v.data.transforms import to_model_range
from t2v.errors import InputError
from t2v.models.autoencoder_base import Autoencoder
from t2v.models.base import weight_files


class LatentMoments(NamedTuple):
    """Distributions of scaled latents, fp16: what the U-Net learns from is mean + std * noise."""

    mean: Tensor  # (N, C, h, w)
    std: Tensor  # (N, C, h, w)

    def to(self, device: torch.device) -> "LatentMoments":
        """The same on a device."""
        return LatentMoments(self.mean.to(device), self.std.to(device))

    def draw(self, indices: Tensor, noise: Tensor | None) -> Tensor:
        """Latents at `indices` (...): fp32 (..., C, h, w), sampled with `noise` of that shape, or the mean."""
        where = indices.to(self.mean.device)
        mean = self.mean[where].float()
        if noise is None:
            return mean
        return mean + self.std[where].float() * noise.to(mean.device)


def cache_key(base: Path, contents: Iterable[str], settings: dict[str, Any]) -> str:
    """A name for latents: it changes with the autoencoder's weights, the data's content and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in [base / "vae" / "config.json", *weight_files(base / "vae")]:
        digest.update(file.read_bytes())
    for content in contents:
        digest.update(content.encode() + b"\0")
    return digest.hexdigest()[:24]


@torch.no_grad()
def encode(
    autoencoder: Autoencoder, pixels: Tensor, device: torch.device, precision: torch.dtype | None
) -> LatentMoments:
    """Latents of uint8 pictures (N, H, W, 3): fp32, on the device.

    Args:
        precision: of autocast, None for none.
    """
    images = to_model_range(pixels.to(device))
    with torch.autocast(device.type, precision, enabled=precision is not None):
        posterior = autoencoder.encode(images)
    scale = autoencoder.config.scaling_factor
    return LatentMoments(posterior.mean.float() * scale, (0.5 * posterior.logvar.float()).exp() * scale)


def encode_pictures(
    autoencoder: Autoencoder,
    batches: Iterable[np.ndarray],
    device: torch.device,
    precision: torch.dtype | None,
    on_encoded: Callable[[int], None] = lambda count: None,
) -> LatentMoments:
    """Latents of batches of uint8 pictures (N, H, W, 3), in order: fp16, on the CPU.

    Args:
        precision: of autocast, None for none.
        on_encoded: told the number of pictures of each finished batch.
    """
    parts = []
    for pixels in batches:
        moments = encode(autoencoder, torch.from_numpy(pixels), device, precision)
        parts.append([part.half().cpu() for part in moments])
        on_encoded(len(pixels))
    return LatentMoments(*(torch.cat(column).contiguous() for column in zip(*parts, strict=True)))


def make_cache_folder(cache_dir: str | None, output_dir: Path) -> Path:
    """The folder that `data.cache_dir` names, by default the run's own; InputError where it cannot be made."""
    folder = Path(cache_dir) if cache_dir is not None else output_dir / "cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"data.cache_dir {folder} cannot be made ({error.strerror}): set another one") from error
    return folder


def cached(folder: Path, key: str, compute: Callable[[], LatentMoments]) -> LatentMoments:
    """The latents stored as `folder/latents-KEY.safetensors`, computed and stored if they are not there."""
    path = folder / f"latents-{key}.safetensors"
    if path.is_file():
        return LatentMoments(**load_file(path))
    moments = compute()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(moments._asdict(), temporary)
    os.replace(temporary, path)
    return moments


def note_tenths(note: Callable[[str], None], what: str, total: int) -> Callable[[int], None]:
    """A counter for `encode_pictures` that makes a note of every tenth of `total`."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        before, done = done, done + more
        if done * 10 // total > before * 10 // total:
            note(f"{what}: {done} of {total}")

    return count


def in_batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Consecutive slices of at most `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))
