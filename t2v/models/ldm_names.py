"""Names of modules in single-file Stable Diffusion checkpoints (the layout of the latent-diffusion code, "LDM").

Each table gives a module's name in the public format and in that layout; `rename` replaces whole leading components
of a name and nothing else, so a table works in both directions and on names that are converted already.
"""

from collections.abc import Mapping
from itertools import accumulate

import torch

from t2v.models.autoencoder_base import AutoencoderBaseConfig
from t2v.models.unet_config import VideoUNetConfig

Modules = dict[str, str]  # public name to LDM name


def rename(weights: Mapping[str, torch.Tensor], modules: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Weights with the longest leading module name of each replaced; a name without one stays as it is."""
    return {rename_module(name, modules): tensor for name, tensor in weights.items()}


def rename_module(name: str, modules: Mapping[str, str]) -> str:
    """A name with its longest leading module name replaced, or as it is."""
    prefixes = list(accumulate(name.split("."), lambda left, right: f"{left}.{right}"))
    found = next((prefix for prefix in reversed(prefixes) if prefix in modules), None)
    return name if found is None else modules[found] + name.removeprefix(found)


def inverse(modules: Modules) -> Modules:
    """The table of the other direction."""
    return {ldm: public for public, ldm in modules.items()}


def unet_modules(config: VideoUNetConfig) -> Modules:
    """The U-Net; LDM numbers all blocks of each half in a row."""
    per_level = config.layers_per_block + 1
    modules = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        **_resnet("mid_block.resnets.0", "middle_block.0"),
        "mid_block.attentions.0": "middle_block.1",
        **_resnet("mid_block.resnets.1", "middle_block.2"),
    }
    for level, up_type in enumerate(config.up_block_types):
        down, up = f"down_blocks.{level}", f"up_blocks.{level}"
        for layer in range(config.layers_per_block):
            block = f"input_blocks.{1 + level * per_level + layer}"
            modules |= _resnet(f"{down}.resnets.{layer}", f"{block}.0")
            modules[f"{down}.attentions.{layer}"] = f"{block}.1"
        modules[f"{down}.downsamplers.0.conv"] = f"input_blocks.{(level + 1) * per_level}.0.op"
        has_attention = up_type == "CrossAttnUpBlock2D"
        for layer in range(per_level):
            block = f"output_blocks.{level * per_level + layer}"
            modules |= _resnet(f"{up}.resnets.{layer}", f"{block}.0")
            if has_attention:
                modules[f"{up}.attentions.{layer}"] = f"{block}.1"
        modules[f"{up}.upsamplers.0.conv"] = f"{block}.{2 if has_attention else 1}.conv"
    return modules


def _resnet(public: str, ldm: str) -> Modules:
    inner = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    return {f"{public}.{own}": f"{ldm}.{theirs}" for own, theirs in inner.items()}


def autoencoder_modules(config: AutoencoderBaseConfig) -> Modules:
    """The autoencoder; LDM numbers the decoder's levels from the outermost."""
    modules = {}
    for half in ("encoder", "decoder"):
        modules[f"{half}.conv_norm_out"] = f"{half}.norm_out"
        for index in (0, 1):
            modules[f"{half}.mid_block.resnets.{index}"] = f"{half}.mid.block_{index + 1}"
        attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
        for own, theirs in attention.items():
            modules[f"{half}.mid_block.attentions.0.{own}"] = f"{half}.mid.attn_1.{theirs}"
    num_levels = len(config.block_out_channels)
    for level in range(num_levels):
        down, up = f"encoder.down.{level}", f"decoder.up.{num_levels - 1 - level}"
        sides = ((f"encoder.down_blocks.{level}", down, 0), (f"decoder.up_blocks.{level}", up, 1))
        for public, ldm, extra in sides:
            for layer in range(config.layers_per_block + extra):
                modules[f"{public}.resnets.{layer}"] = f"{ldm}.block.{layer}"
                modules[f"{public}.resnets.{layer}.conv_shortcut"] = f"{ldm}.block.{layer}.nin_shortcut"
        modules[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = f"{down}.downsample.conv"
        modules[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = f"{up}.upsample.conv"
    return modules


def open_clip_modules(num_layers: int) -> Modules:
    """The text encoder of Stable Diffusion 2; its query, key and value projections are one matrix in OpenCLIP."""
    modules = {
        "text_model.embeddings.token_embedding": "token_embedding",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm": "ln_final",
    }
    inner = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn": "attn",
    }
    for layer in range(num_layers):
        for own, theirs in inner.items():
            modules[f"text_model.encoder.layers.{layer}.{own}"] = f"transformer.resblocks.{layer}.{theirs}"
    return modules
