"""Low-rank adapters (LoRA, arXiv 2106.09685) on the spatial layers of the U-Net, or on its attention over frames.

They are trained through peft. Their file is the one that diffusers and its relatives load: LORA_FILE, with keys
`unet.MODULE.lora_A.weight`. Spatial ones lie beside the temporal weights in a motion folder. Those of attention over
frames are a motion LoRA, in a folder of its own; on AnimateDiff modules it is also written as AnimateDiff's own are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from t2v.errors import InputError
from t2v.models.animatediff_files import to_original_lora
from t2v.models.base import save_state_dict
from t2v.models.lora_file import read_lora
from t2v.models.motion_module import AnimateDiffConfig
from t2v.models.unet import VideoUNet, is_temporal

LORA_FILE = "pytorch_lora_weights.safetensors"
ORIGINAL_FILE = "animatediff_motion_lora.safetensors"
_ADAPTER = "default"


@dataclass(frozen=True)
class LoraSettings:
    """What the adapters are: an update of a given rank, times alpha / rank, of every layer in `targets`."""

    rank: int = 16
    alpha: float = 16.0
    targets: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0")  # ends of module names


def add_lora(unet: VideoUNet, settings: LoraSettings, generator: torch.Generator, temporal: bool = False) -> VideoUNet:
    """Add adapters to an image or video U-Net, in place; at first they change nothing.

    All other parameters are frozen, and those of the adapted layers move to `MODULE.base_layer`.

    Args:
        temporal: adapt the attention over frames, instead of spatial layers.

    Raises:
        InputError: a target that is the name of no such layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    modules = _target_modules(unet, settings.targets, temporal)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=modules)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):  # peft initialises from the global source
        torch.manual_seed(seed)
        inject_adapter_in_model(config, unet, _ADAPTER)
    return unet


def _target_modules(unet: VideoUNet, targets: Sequence[str], temporal: bool) -> list[str]:
    layers = [
        name
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and is_temporal(name) == temporal
    ]
    found: list[str] = []
    for target in targets:
        ends = (f".{target}", f".{target.removesuffix('.0')}" if temporal else f".{target}")  # own attention: to_out
        modules = [name for name in layers if f".{name}".endswith(ends)]
        if not modules:
            kind, example = ("temporal", "to_q") if temporal else ("spatial", "to_q or conv1")
            raise InputError(f"LoRA: no {kind} layer of the U-Net is called {target}; use for example {example}")
        found += modules
    return found


def is_lora(name: str) -> bool:
    """Whether a parameter of a U-Net belongs to an adapter, by its dotted name."""
    return any(part.startswith("lora_") for part in name.split("."))


def lora_parameters(unet: VideoUNet) -> dict[str, nn.Parameter]:
    """The parameters of the adapters by name."""
    return {name: parameter for name, parameter in unet.named_parameters() if is_lora(name)}


def save_lora(unet: VideoUNet, folder: str | Path, settings: LoraSettings, dtype: torch.dtype | None = None) -> None:
    """Write the adapters of a U-Net to `folder`/pytorch_lora_weights.safetensors.

    The factor alpha / rank goes into the second matrix, so that a reader needs no other number.
    """
    save_state_dict(Path(folder) / LORA_FILE, _lora_weights(unet, settings), dtype)


def _lora_weights(unet: VideoUNet, settings: LoraSettings) -> dict[str, torch.Tensor]:
    weights = {}
    for name, parameter in lora_parameters(unet).items():
        scale = settings.alpha / settings.rank if "lora_B" in name.split(".") else 1.0
        weights[f"unet.{name.replace(f'.{_ADAPTER}.', '.')}"] = parameter * scale
    return weights


def save_motion_lora(
    unet: VideoUNet, folder: str | Path, settings: LoraSettings, dtype: torch.dtype | None = None
) -> None:
    """Write the adapters of attention over frames into `folder`, which is made if needed.

    LORA_FILE is what diffusers' AnimateDiffPipeline loads, and ORIGINAL_FILE what tools for AnimateDiff's own files do.
    Adapters of this project's own layers are in LORA_FILE alone.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = _lora_weights(unet, settings)
    if isinstance(unet.motion, AnimateDiffConfig):
        weights = {name.replace(".temporal_attentions.", ".motion_modules."): w for name, w in weights.items()}
        save_state_dict(folder / ORIGINAL_FILE, to_original_lora(weights), dtype)
    save_state_dict(folder / LORA_FILE, weights, dtype)


def merge_lora(unet: VideoUNet, path: str | Path) -> VideoUNet:
    """Add all the updates of an adapter file to the weights of a U-Net, in place.

    Raises:
        InputError: the file is missing or broken, or does not fit: the first mismatch is named, nothing is changed.
    """
    lora = read_lora(path, unet)
    if lora.unmatched:
        raise InputError(f"{path}: {lora.unmatched[0]} does not fit this U-Net: the LoRA belongs to another model")
    for update in lora.updates:
        update.merge(1.0)
    return unet
