"""Files of AnimateDiff motion modules: v1 to v3 and AnimateLCM, in the original layout and as diffusers' MotionAdapter.

The original layout is one file, a MotionAdapter a folder. Both hold the sinusoids of the frame positions: they are
checked, and kept in conversions. What neither layout has a place for (trained length and rate, which norm) is JSON in
the header of files written here; other programs do not look there.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from t2v.errors import InputError
from t2v.models.base import load_config, load_header, load_state_dict, save_model, save_state_dict, weight_files
from t2v.models.config_checks import are_widths, is_count
from t2v.models.motion_module import AnimateDiffConfig, frame_positions

Value = TypeVar("Value")

MODULE = re.compile(
    r"(?:module\.)?(down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\.(\d+)\.(?:temporal_transformer\.)?(.+)"
)
BLOCK = re.compile(r"transformer_blocks\.(\d+)\.(.+)")
ORIGINAL_POSITIONS = re.compile(r"attention_blocks\.\d+\.pos_encoder\.pe")
POSITIONS = "pos_embed.pe"
LORA_LAYER = re.compile(r"\.(to_q|to_k|to_v|to_out)(?:\.0)?\.lora_(A|B)\.weight$")
METADATA = "t2v_motion"  # in the header
FACTS = (
    "version",
    "num_frames",
    "fps",
    "shared_noise",
    "noise_prior",
    "num_attention_heads",
    "norm_num_groups",
    "norm_over_frames",
)
ORIGINAL_INNER = {
    "attention_blocks.0": "attn1",
    "attention_blocks.1": "attn2",
    "norms.0": "norm1",
    "norms.1": "norm2",
    "ff_norm": "norm3",
}
ADAPTER_INTEGERS = (
    "motion_layers_per_block",
    "motion_transformer_layers_per_block",
    "motion_num_attention_heads",
    "motion_norm_num_groups",
    "motion_max_seq_length",
)


def is_animatediff(path: str | Path) -> bool:
    """Whether a folder is a MotionAdapter, or a safetensors file holds motion modules."""
    path = Path(path)
    if path.is_dir():
        return (path / "config.json").is_file() and load_config(path).get("_class_name") == "MotionAdapter"
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    return any(MODULE.fullmatch(name) for name in load_header(path).shapes)


def read_animatediff_config(path: str | Path) -> AnimateDiffConfig:
    """What modules a MotionAdapter folder or a file holds, from its config and header alone."""
    if Path(path).is_dir():
        config = _adapter_config(load_config(path), path)
    else:
        config = _file_config(load_header(path).shapes, path)
    return _with_facts(config, read_facts(path), path)


def read_facts(path: str | Path) -> dict[str, Any]:
    """What a folder or file that was written here says of its modules beyond its layout; empty for all others.

    `scheduler`, if it is there, is the content of a `scheduler_config.json`.
    """
    return _facts(load_header(weight_files(path)[0]).metadata, path)


def _facts(metadata: Mapping[str, str], path: str | Path) -> dict[str, Any]:
    try:
        facts = dict(json.loads(metadata.get(METADATA, "{}")))
        return facts | ({"scheduler": dict(facts["scheduler"])} if "scheduler" in facts else {})
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: {METADATA} in its header is broken: export it again") from error


def _with_facts(config: AnimateDiffConfig, facts: Mapping[str, Any], path: str | Path) -> AnimateDiffConfig:
    known = {name: facts[name] for name in FACTS if name in facts}
    for name, value in known.items():
        wanted = type(getattr(AnimateDiffConfig, name))
        if type(value) is not wanted or (wanted is int and not is_count(name, value)):
            raise InputError(f"{path}: {name} in its header is {value!r}: export it again")
    return replace(config, **known)


def _adapter_config(config: Mapping[str, Any], path: str | Path) -> AnimateDiffConfig:
    values = {**AnimateDiffConfig().to_adapter(), "use_motion_mid_block": True, **config}
    for name in ADAPTER_INTEGERS:
        if not is_count(name, values[name]):
            raise InputError(f"{path}: {name} is {values[name]!r}, supported is one whole number for all levels")
    if not are_widths(widths := values["block_out_channels"]):
        raise InputError(f"{path}: block_out_channels is {widths!r}, expected a list of widths")
    if values["conv_in_channels"] is not None:
        raise InputError(f"{path} changes conv_in (PIA): only plain AnimateDiff modules are supported")
    max_length, mid_block = values["motion_max_seq_length"], bool(values["use_motion_mid_block"])
    return AnimateDiffConfig(
        version=_version(mid_block, max_length),
        block_out_channels=tuple(values["block_out_channels"]),
        layers_per_block=values["motion_layers_per_block"],
        num_layers=values["motion_transformer_layers_per_block"],
        num_attention_heads=values["motion_num_attention_heads"],
        norm_num_groups=values["motion_norm_num_groups"],
        max_length=max_length,
        mid_block=mid_block,
    )


def _file_config(shapes: Mapping[str, tuple[int, ...]], path: str | Path) -> AnimateDiffConfig:
    """From the names and shapes of a file; the heads, 8, and the groups, 32, are those of all known modules."""
    shapes = _to_adapter_names(shapes, path)
    widths: list[int] = []
    while len(shape := shapes.get(f"down_blocks.{len(widths)}.motion_modules.0.norm.weight", ())) == 1:
        widths.append(shape[0])
    if not widths:
        raise InputError(f"{path} has no down_blocks.0.motion_modules.0.norm.weight: the file is broken")
    tables = [shape[1] for name, shape in shapes.items() if name.endswith(POSITIONS) and len(shape) == 3]
    first = [match for name in shapes if (match := MODULE.fullmatch(name)) and match[1] == "down_blocks.0"]
    blocks = {block[1] for match in first if (block := BLOCK.fullmatch(match[3]))}
    mid_block = any(name.startswith("mid_block.") for name in shapes)
    return AnimateDiffConfig(
        version=_version(mid_block, tables[0]) if tables else "LCM",
        block_out_channels=tuple(widths),
        layers_per_block=len({match[2] for match in first}),
        num_layers=len(blocks),
        max_length=tables[0] if tables else AnimateDiffConfig.max_length,
        mid_block=mid_block,
    )


def _version(mid_block: bool, max_length: int) -> str:
    if mid_block:
        return "v2"
    return "v3" if max_length >= AnimateDiffConfig.max_length else "v1"


def _to_adapter_names(values: Mapping[str, Value], path: str | Path) -> dict[str, Value]:
    """Values by the names of MotionAdapter, which has one table of positions for each transformer block."""
    renamed = {}
    for name, value in values.items():
        if (match := MODULE.fullmatch(name)) is None:
            raise InputError(f"{path}: {name} belongs to no motion module: only plain AnimateDiff is supported")
        renamed[f"{match[1]}.motion_modules.{match[2]}.{_adapter_name(match[3])}"] = value
    return renamed


def _adapter_name(name: str) -> str:
    if (block := BLOCK.fullmatch(name)) is None:
        return name
    inner = POSITIONS if ORIGINAL_POSITIONS.fullmatch(block[2]) else block[2]
    for original, own in ORIGINAL_INNER.items():
        if inner.startswith(f"{original}."):
            inner = own + inner.removeprefix(original)
    return f"transformer_blocks.{block[1]}.{inner}"


def read_animatediff(path: str | Path) -> dict[str, torch.Tensor]:
    """Weights of a MotionAdapter folder or of a file by the names of MotionAdapter.

    Raises:
        InputError: a tensor that belongs to no motion module, or tables of positions that are no sinusoids.
    """
    weights, config = to_adapter(load_state_dict(path), path), read_animatediff_config(path)
    for name, tensor in weights.items():
        if name.endswith(POSITIONS) and tensor.shape[1] != config.max_length:
            frames = f"positions for {tensor.shape[1]} frames, its config.json says {config.max_length}"
            raise InputError(f"{path} has {frames}: they are of two versions")
    return weights


def to_adapter(weights: Mapping[str, torch.Tensor], path: str | Path) -> dict[str, torch.Tensor]:
    """Weights of either layout by the names of MotionAdapter; `path` is what messages call them."""
    renamed = _to_adapter_names(weights, path)
    tables = {name: tensor for name, tensor in renamed.items() if name.endswith(POSITIONS)}
    for name, tensor in tables.items():
        if not _are_sinusoids(tensor):
            raise InputError(f"{path}: {name} is no table of sinusoids: only plain AnimateDiff is supported")
    lengths = sorted({tensor.shape[1] for tensor in tables.values()})
    if len(lengths) > 1:
        raise InputError(f"{path} has positions for {lengths[0]} and for {lengths[-1]} frames: it mixes two versions")
    return renamed


def _are_sinusoids(table: torch.Tensor) -> bool:
    """Whether (1, L, C) is the table of frame positions, within what bfloat16 rounds."""
    if table.ndim != 3 or table.shape[0] != 1:
        return False
    expected = frame_positions(torch.arange(table.shape[1]), table.shape[2])
    return torch.allclose(table[0].float(), expected, atol=5e-3)


def to_original(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by the original names, from those of MotionAdapter; each attention has its table of positions."""
    original_inner = {own: original for original, own in ORIGINAL_INNER.items()}
    renamed = {}
    for name, tensor in weights.items():
        match = MODULE.fullmatch(name)
        assert match is not None, name
        module = f"{match[1]}.motion_modules.{match[2]}.temporal_transformer"
        if (block := BLOCK.fullmatch(match[3])) is None:
            renamed[f"{module}.{match[3]}"] = tensor
        elif block[2] == POSITIONS:
            for index in (0, 1):
                attention = f"transformer_blocks.{block[1]}.attention_blocks.{index}"
                renamed[f"{module}.{attention}.pos_encoder.pe"] = tensor.clone()
        else:
            first, _, rest = block[2].partition(".")
            inner = f"{original_inner.get(first, first)}.{rest}"
            renamed[f"{module}.transformer_blocks.{block[1]}.{inner}"] = tensor
    return renamed


def to_original_lora(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A motion LoRA by the names that AnimateDiff's own have, from peft's: `unet.MODULE.lora_A.weight`."""
    renamed = to_original({name.removeprefix("unet."): tensor for name, tensor in weights.items()})
    return {LORA_LAYER.sub(_original_lora_layer, name): tensor for name, tensor in renamed.items()}


def _original_lora_layer(match: re.Match[str]) -> str:
    return f".processor.{match[1]}_lora.{'down' if match[2] == 'A' else 'up'}.weight"


def save_adapter(
    folder: str | Path,
    config: AnimateDiffConfig,
    weights: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a folder that diffusers opens as MotionAdapter.

    Args:
        weights: by the names of MotionAdapter; tables of positions that are not there are added.
        facts: what else the header is to say, of the file's own kind or the caller's.
        dtype: storage type; None keeps that of each tensor.
    """
    tensors = dict(weights)
    for name, tensor in weights.items():
        table_name = name.removesuffix("norm1.weight") + POSITIONS
        if name.endswith(".norm1.weight") and table_name not in tensors:  # AnimateLCM files leave the tables out
            table = frame_positions(torch.arange(config.max_length), len(tensor))
            tensors[table_name] = table[None].to(tensor.dtype)
    written = _adapter_config(config.to_adapter(), folder)
    save_model(folder, config.to_adapter(), tensors, dtype=dtype, metadata=_metadata(config, written, facts))


def _metadata(config: AnimateDiffConfig, written: AnimateDiffConfig, facts: Mapping[str, Any]) -> dict[str, str]:
    """The header of a file from whose layout alone `written` would be read."""
    known = {**facts, **({name: getattr(config, name) for name in FACTS} if config != written else {})}
    return {METADATA: json.dumps(known)} if known else {}


def write_adapter(
    weights: Mapping[str, torch.Tensor], folder: str | Path, path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a folder that diffusers opens as MotionAdapter, from the weights and header of the file `path`."""
    facts = _facts(metadata or {}, path)
    config = _file_config({name: tuple(tensor.shape) for name, tensor in weights.items()}, path)
    save_adapter(folder, _with_facts(config, facts, path), to_adapter(weights, path), facts)


def write_original(folder: str | Path, path: str | Path) -> None:
    """Write one file in the original layout from a MotionAdapter folder."""
    config, weights = read_animatediff_config(folder), to_original(read_animatediff(folder))
    written = _file_config({name: tuple(tensor.shape) for name, tensor in weights.items()}, path)
    save_state_dict(path, weights, metadata=_metadata(config, written, read_facts(folder)))
