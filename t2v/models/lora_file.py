"""LoRA files of other tools (arXiv 2106.09685), merged into the weights that they change.

Read are the keys of kohya's trainer (`lora_unet_down_blocks_0_..._to_q.lora_down.weight` with `.alpha`; blocks also
under LDM's names), of peft and diffusers (`unet.MODULE.lora_A.weight`, alpha in the header or in adapter_config.json)
and of older diffusers (`MODULE.processor.to_q_lora.down.weight`), for the U-Net, its AnimateDiff modules and the text
encoder. All are compared with dots as underscores: kohya's names do not say which was which.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2v.errors import InputError
from t2v.models.base import load_header, load_state_dict
from t2v.models.ldm_names import rename_module, unet_modules
from t2v.models.text_encoder import TextEncoder
from t2v.models.unet import VideoUNet

DOWN = re.compile(r"(.+?)(?:\.lora_down|\.lora_A(?:\.default)?|[._]lora\.down|\.lora_linear_layer\.down)\.weight")
UP_OF_DOWN = (
    (".lora_down.", ".lora_up."),
    (".lora_A.", ".lora_B."),
    ("lora.down.", "lora.up."),
    (".lora_linear_layer.down.", ".lora_linear_layer.up."),
)
OTHER_METHODS = {"dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "hada_": "LoHa", "lokr_": "LoKr"}
OTHER_METHODS |= {"lora_mid": "a LoCon with a middle factor"}
PREFIXES = {"lora_unet_": "unet_", "lora_te1_": "te_", "lora_te_": "te_", "unet_": "unet_", "text_encoder_": "te_"}
TO_OUT = re.compile(r"_to_out$")
TEXT_PROJECTION = re.compile(r"_to_(q|k|v|out)(?:_0)?$")  # older diffusers' names in the text encoder
SECOND_ENCODER = re.compile(r"(lora_te2_|text_encoder_2\.)")
MOTION = re.compile(r"motion_modules_(\d+)_(?:temporal_transformer_)?")
MOTION_ATTENTION = re.compile(r"attention_blocks_([01])")


@dataclass(frozen=True)
class Update:
    """What a LoRA adds to one layer: W += scale * up @ down."""

    layer: nn.Module
    down: torch.Tensor
    up: torch.Tensor
    scale: float  # alpha / rank

    @torch.no_grad()
    def merge(self, weight: float) -> None:
        """Add it, times `weight`, to the layer."""
        target = self.layer.weight
        assert isinstance(target, torch.Tensor)
        up, down = self.up.flatten(1).float(), self.down.flatten(1).float()
        target.add_((weight * self.scale * (up @ down)).view(target.shape).to(target))


@dataclass(frozen=True)
class Lora:
    """A file that fits a model."""

    updates: tuple[Update, ...]
    unmatched: tuple[str, ...]  # modules of the file that the model does not have


def parse_lora(text: str) -> tuple[str, float]:
    """File and weight of "FILE:0.8"; a weight of 1 where none is said."""
    name, _, weight = text.rpartition(":")
    try:
        value = float(weight)
    except ValueError:
        return text, 1.0
    if not name or not math.isfinite(value):
        raise InputError(f"a LoRA is given as FILE or FILE:WEIGHT, as in style.safetensors:0.8, got {text!r}")
    return name, value


def read_lora(path: str | Path, unet: VideoUNet, text_encoder: TextEncoder | None = None) -> Lora:
    """Match a LoRA file with the layers of a model; nothing is changed yet.

    Raises:
        InputError: not a LoRA, another method or another base model, a factor that is missing or has another shape.
    """
    weights = load_state_dict(path)
    alphas = _header_alphas(Path(path))
    _refuse_others(weights, path)
    layers = _layers(unet, text_encoder)
    updates, unmatched = [], []
    for key, down in weights.items():
        if (match := DOWN.fullmatch(key)) is None:
            continue
        name = _canonical(match[1])
        up = weights.get(_up_name(key))
        if name not in layers:
            unmatched.append(match[1])
        elif up is None or not _fits(down, up, layers[name]):
            raise InputError(f"{path}: {key} does not fit this U-Net or text encoder: the LoRA is of another model")
        else:
            alpha = _alpha(weights, match[1], len(down), alphas)
            updates.append(Update(layers[name], down, up, alpha / len(down)))
    if not updates and not unmatched:
        raise InputError(f"{path} has no tensor named ...lora_A.weight or ...lora_down.weight: give a LoRA")
    if not updates:
        raise InputError(f"{path}: {unmatched[0]} does not fit this U-Net, nor anything else: it is of another model")
    return Lora(tuple(updates), tuple(unmatched))


def _refuse_others(weights: Mapping[str, Any], path: str | Path) -> None:
    for key in weights:
        for mark, method in OTHER_METHODS.items():
            if mark in key:
                raise InputError(f"{path} is {method} ({key}), which is not supported: use a plain LoRA")
        if SECOND_ENCODER.match(key):
            raise InputError(f"{path} is a LoRA of a model with two text encoders (SDXL): use one of this base")


def _up_name(key: str) -> str:
    down, up = next((down, up) for down, up in UP_OF_DOWN if down in key)
    return key.replace(down, up)


def _fits(down: torch.Tensor, up: torch.Tensor, layer: nn.Module) -> bool:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    pair = down.ndim > 1 and up.ndim > 1 and up[0].numel() == len(down)
    return pair and (len(up), down[0].numel()) == (len(weight), weight[0].numel())


def _layers(unet: VideoUNet, text_encoder: TextEncoder | None) -> dict[str, nn.Module]:
    """Every linear and convolution layer by its names in LoRA files, as `_canonical` writes them."""
    found: dict[str, nn.Module] = {}
    ldm = unet_modules(unet.config)
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            for alias in (rename_module(name, ldm), name):
                found[TO_OUT.sub("_to_out_0", f"unet_{alias.replace('.', '_')}")] = module
    for name, module in text_encoder.model.named_modules() if text_encoder is not None else ():
        if isinstance(module, nn.Linear):
            found[f"te_{name.removeprefix('text_model.').replace('.', '_')}"] = module
    return found


def _canonical(module: str) -> str:
    """The name of a file's module with underscores for dots, after `unet_` (without a prefix, too) or `te_`."""
    name = module.removeprefix("base_model.model.").replace(".processor.", ".").replace(".", "_")
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    network = PREFIXES.get(prefix, "unet_")
    name = name.removeprefix(prefix)
    if network == "te_":
        return network + TEXT_PROJECTION.sub(r"_\1_proj", name.removeprefix("text_model_"))
    name = TO_OUT.sub("_to_out_0", MOTION.sub(r"temporal_attentions_\1_", name))
    return network + MOTION_ATTENTION.sub(lambda match: f"attn{int(match[1]) + 1}", name)


def _alpha(weights: Mapping[str, torch.Tensor], module: str, rank: int, header: Mapping[str, Any]) -> float:
    """Alpha beside the weights, else that of the header, else the rank: the scale is then 1."""
    for beside in (f"{module}.alpha", f"{module}_lora.alpha", f"{module}.lora.alpha"):
        if beside in weights:
            return float(weights[beside])
    network = "text_encoder." if module.startswith("text_encoder.") else "unet."
    own = {key.removeprefix(network): value for key, value in header.items() if key.startswith(network)}
    name = module.removeprefix("base_model.model.").removeprefix(network)
    patterns = (own.get("alpha_pattern") or {}).items()
    special = [value for pattern, value in patterns if name == pattern or name.endswith(f".{pattern}")]
    alpha = float(special[0] if special else own.get("lora_alpha", rank))
    return alpha * math.sqrt(rank) if own.get("use_rslora") else alpha


def _header_alphas(path: Path) -> dict[str, Any]:
    """peft's settings, their names after "unet." or "text_encoder.": diffusers' header, or adapter_config.json."""
    config = path.with_name("adapter_config.json")
    try:
        if path.name == "adapter_model.safetensors" and config.is_file():
            return {f"unet.{name}": value for name, value in json.loads(config.read_text()).items()}
        return dict(json.loads(load_header(path).metadata.get("lora_adapter_metadata", "{}")))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the LoRA settings beside its weights are broken: get it again") from error
