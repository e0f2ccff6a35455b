"""A Stable Diffusion checkpoint in memory: what every format is read to and written from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizerFast

from t2v.errors import InputError
from t2v.models.autoencoder_classes import AUTOENCODERS
from t2v.models.base import DIFFUSERS_STEM, load_config, load_json, load_state_dict, save_json, save_model
from t2v.models.text_encoder import save_tokenizer
from t2v.models.unet_config import VIDEO_UNET

STEMS = {"text_encoder": "model", "unet": DIFFUSERS_STEM, "vae": DIFFUSERS_STEM}
CLASSES: dict[str, tuple[str, ...]] = {
    "text_encoder": ("CLIPTextModel",),
    "unet": ("UNet2DConditionModel", VIDEO_UNET),
    "vae": tuple(AUTOENCODERS),
}


@dataclass(frozen=True)
class Part:
    """One network: its `config.json` and its weights under the names of the public format, in the type of the file."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """An image model, or a video model whose U-Net is all of it; tokenizer and motion are beside it."""

    parts: dict[str, Part]  # text_encoder, unet, vae
    scheduler: dict[str, Any]  # scheduler_config.json

    def index(self) -> dict[str, Any]:
        """The content of `model_index.json`."""
        vae, unet = (self.parts[part].config.get("_class_name", CLASSES[part][0]) for part in ("vae", "unet"))
        return model_index(self.scheduler, vae, unet)


def read_folder(folder: str | Path, read: Callable[[Path, str], dict[str, torch.Tensor]] | None = None) -> Checkpoint:
    """Read a Stable Diffusion folder; InputError names what is missing, broken or of another family.

    Args:
        read: the weights of a network's folder, by the stem of their file; None: `load_state_dict`.
    """
    folder, read = Path(folder), read or load_state_dict
    check_index(folder)
    parts = {part: Part(load_config(folder / part), read(folder / part, stem)) for part, stem in STEMS.items()}
    return Checkpoint(parts, load_json(folder / "scheduler" / "scheduler_config.json"))


def write_folder(checkpoint: Checkpoint, folder: str | Path, tokenizer: CLIPTokenizerFast) -> None:
    """Write a Stable Diffusion folder that other tools open; weights keep their type, to the bit."""
    folder = Path(folder)
    for part, content in checkpoint.parts.items():
        save_model(folder / part, content.config, content.weights, stem=STEMS[part])
    save_tokenizer(tokenizer, folder / "tokenizer")
    (folder / "scheduler").mkdir(exist_ok=True)
    save_json(folder / "scheduler" / "scheduler_config.json", checkpoint.scheduler)
    save_json(folder / "model_index.json", checkpoint.index())


def check_index(folder: Path) -> None:
    """Raise InputError unless `model_index.json` names the classes of Stable Diffusion 1 or 2, or of ModelScope."""
    index = load_json(folder / "model_index.json")
    if _class_in(index, "text_encoder_2") is not None:
        raise InputError(
            f"{folder} is a {index.get('_class_name')} with two text encoders: use Stable Diffusion 1 or 2"
        )
    for part, supported in CLASSES.items():
        found = _class_in(index, part)
        if found not in supported:
            raise InputError(
                f"{folder / 'model_index.json'}: {part} is {found}, supported is {' or '.join(supported)} (Stable "
                "Diffusion 1 or 2, ModelScope)"
            )
    for part in ("unet", "vae"):
        named = _class_in(index, part)
        written = load_config(folder / part).get("_class_name", named)
        if written != named:
            raise InputError(
                f"{folder}: {part} is {named} in model_index.json, {written} in its config.json: restore them"
            )


def _class_in(index: dict[str, Any], part: str) -> Any:
    """The class that a model_index.json opens a part with, [library, class]; None where it has none."""
    entry = index.get(part)
    return entry[-1] if isinstance(entry, list) and entry else entry


def model_index(
    scheduler_config: dict[str, Any], vae_class: str, unet_class: str = "UNet2DConditionModel"
) -> dict[str, Any]:
    """The content of `model_index.json`: which classes of which library other tools open the parts with."""
    parts = {
        "scheduler": ["diffusers", scheduler_config.get("_class_name", "DDIMScheduler")],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", unet_class],
        "vae": ["diffusers", vae_class],
    }
    if unet_class == VIDEO_UNET:
        return {"_class_name": "TextToVideoSDPipeline", **parts}
    return {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        **parts,
    }
