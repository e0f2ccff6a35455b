"""What kind of weights a safetensors file holds, from the names in its header."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from t2v.errors import InputError

Kind = Literal["Stable Diffusion", "motion", "AnimateDiff", "LoRA", "motion LoRA", "other"]

# What names begin with in a file that is not an image model of Stable Diffusion 1 or 2, and what it is.
FOREIGN = (
    ("conditioner.embedders.", "a Stable Diffusion XL checkpoint"),
    ("model.diffusion_model.label_emb.", "a Stable Diffusion XL or unCLIP checkpoint"),
    ("label_emb.", "a Stable Diffusion XL or unCLIP U-Net"),
    ("add_embedding.", "a Stable Diffusion XL U-Net"),
    ("joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("model.diffusion_model.joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("double_blocks.", "a Flux checkpoint"),
    ("model.diffusion_model.double_blocks.", "a Flux checkpoint"),
    ("input_blocks.0.1.", "a ModelScope U-Net in its original layout, which is read as a folder of diffusers only"),
    ("control_model.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
)
LORA_MARKS = (".lora_down.", ".lora_A.", "_lora.down.", ".lora.down.", ".lora_linear_layer.down.")
UNET_KEY = "input_blocks.0.0.weight"


def detect(names: Iterable[str]) -> Kind:
    """The kind of a file with tensors of these names."""
    names = set(names)
    if any(mark in name for name in names for mark in LORA_MARKS):
        return "motion LoRA" if any("motion_modules." in name or ".temporal_" in name for name in names) else "LoRA"
    if any("motion_modules." in name for name in names):
        return "AnimateDiff"
    if any(name.startswith(("temporal_", "fps_embedding.")) or ".temporal_" in name for name in names):
        return "motion"
    return "Stable Diffusion" if any(name.endswith(UNET_KEY) for name in names) else "other"


def foreign_family(names: Iterable[str]) -> str | None:
    """What a checkpoint of another family is; None for Stable Diffusion 1 and 2."""
    names = set(names)
    return next((what for mark, what in FOREIGN if any(name.startswith(mark) for name in names)), None)


def refuse_other_kinds(names: Iterable[str], path: str | Path) -> None:
    """Raise InputError, which says what the file is, unless it is a Stable Diffusion 1 or 2 checkpoint."""
    names = set(names)
    kind, family = detect(names), foreign_family(names)
    options = {"LoRA": "--lora", "motion LoRA": "--lora", "AnimateDiff": "--motion", "motion": "--motion"}
    if kind in options:
        article = "an" if kind == "AnimateDiff" else "a"
        raise InputError(f"{path} is {article} {kind} file, not a whole model: give it with {options[kind]}")
    if family is not None or kind != "Stable Diffusion":
        got = family or "no Stable Diffusion checkpoint"
        raise InputError(f"{path} is {got}: use a Stable Diffusion 1 or 2 checkpoint")
