"""Configs of a single-file Stable Diffusion checkpoint, from the shapes of its tensors: such files have none."""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from t2v.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]

HEAD_SIZE = 64  # of Stable Diffusion 2 and of every CLIP; Stable Diffusion 1 has 8 heads at every width
OPEN_CLIP_LAYERS = 23  # of 24: Stable Diffusion 2 takes the last hidden state but one


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """`unet/config.json` of a U-Net under LDM's names; `sample_size` is that of 512 pixels."""
    widths, layers, attention = _levels(shapes)
    has_attention = [level in attention for level in range(len(widths))]
    if not attention:
        raise InputError("its U-Net has no attention to text: give a Stable Diffusion 1 or 2 checkpoint")
    first = attention[min(attention)]
    linear = len(shapes[f"{first}.proj_in.weight"]) == 2
    conv_in = _size(shapes, "input_blocks.0.0.weight", 1)
    down = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in has_attention]
    up = ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(has_attention)]
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": conv_in,
        "out_channels": _size(shapes, "out.2.weight", 0),
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "act_fn": "silu",
        "cross_attention_dim": _size(shapes, f"{first}.transformer_blocks.0.attn2.to_k.weight", 1),
        "transformer_layers_per_block": _run(f"{first}.transformer_blocks.{{}}.norm1.weight", shapes),
        "attention_head_dim": [max(1, width // HEAD_SIZE) for width in widths] if linear else 8,
        "use_linear_projection": linear,
        "upcast_attention": linear,  # Stable Diffusion 2.1 overflows in float16 without
    }


def _levels(shapes: Shapes) -> tuple[list[int], int, dict[int, str]]:
    """Widths of the levels, layers in each, and the first attention of each level that has one."""
    widths: list[int] = []
    layers: list[int] = []
    attention: dict[int, str] = {}
    starts_level = True
    for index in count(1):
        block = f"input_blocks.{index}"
        if f"{block}.0.op.weight" in shapes:
            starts_level = True
            continue
        if f"{block}.0.in_layers.2.weight" not in shapes:
            break
        if starts_level:
            widths.append(_size(shapes, f"{block}.0.in_layers.2.weight", 0))
            layers.append(0)
        starts_level = False
        layers[-1] += 1
        if f"{block}.1.proj_in.weight" in shapes:
            attention.setdefault(len(widths) - 1, f"{block}.1")
    if not widths or len(set(layers)) != 1:
        raise InputError(
            f"its U-Net has levels of {layers} layers, expected the same number in each: the file is broken"
        )
    return widths, layers[0], attention


def autoencoder_config(shapes: Shapes) -> dict[str, Any]:
    """`vae/config.json` of an autoencoder under LDM's names."""
    num_levels = _run("encoder.down.{}.block.0.conv1.weight", shapes)
    widths = [_size(shapes, f"encoder.down.{level}.block.0.conv1.weight", 0) for level in range(num_levels)]
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": _size(shapes, "encoder.conv_in.weight", 1),
        "out_channels": _size(shapes, "decoder.conv_out.weight", 0),
        "down_block_types": ["DownEncoderBlock2D"] * num_levels,
        "up_block_types": ["UpDecoderBlock2D"] * num_levels,
        "block_out_channels": widths,
        "layers_per_block": _run("encoder.down.0.block.{}.conv1.weight", shapes),
        "act_fn": "silu",
        "latent_channels": _size(shapes, "decoder.conv_in.weight", 1),
        "norm_num_groups": 32,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    }


def clip_config(shapes: Shapes) -> dict[str, Any]:
    """`text_encoder/config.json` of Stable Diffusion 1: CLIP under the names of transformers."""
    embeddings, layer = "text_model.embeddings", "text_model.encoder.layers.{}.mlp.fc1.weight"
    return _text_config(
        _size(shapes, f"{embeddings}.token_embedding.weight", 0),
        _size(shapes, f"{embeddings}.token_embedding.weight", 1),
        _size(shapes, f"{embeddings}.position_embedding.weight", 0),
        _size(shapes, layer.format(0), 0),
        _run(layer, shapes),
        "quick_gelu",
    )


def open_clip_config(shapes: Shapes) -> dict[str, Any]:
    """`text_encoder/config.json` of Stable Diffusion 2: OpenCLIP under its own names."""
    layer = "transformer.resblocks.{}.mlp.c_fc.weight"
    return _text_config(
        _size(shapes, "token_embedding.weight", 0),
        _size(shapes, "token_embedding.weight", 1),
        _size(shapes, "positional_embedding", 0),
        _size(shapes, layer.format(0), 0),
        min(_run(layer, shapes), OPEN_CLIP_LAYERS),
        "gelu",
    )


def _text_config(vocab: int, width: int, positions: int, inner: int, layers: int, act: str) -> dict[str, Any]:
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": vocab,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD_SIZE),
        "max_position_embeddings": positions,
        "hidden_act": act,
        "layer_norm_eps": 1e-5,
        "bos_token_id": vocab - 2,
        "eos_token_id": vocab - 1,
        "pad_token_id": 1,
    }


def _run(pattern: str, names: Iterable[str]) -> int:
    """How many of the names that `pattern` makes of 0, 1, 2, ... are there, up to the first that is not."""
    known = set(names)
    return next(index for index in count() if pattern.format(index) not in known)


def _size(shapes: Shapes, name: str, axis: int) -> int:
    if len(shapes.get(name, ())) <= axis:
        raise InputError(
            f"{name} is missing or misshapen: the file is broken, or no Stable Diffusion 1 or 2 checkpoint"
        )
    return shapes[name][axis]
