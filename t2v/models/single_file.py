"""Stable Diffusion 1 and 2 in a single .safetensors file, in the layout of the latent-diffusion code.

What such a file does not say comes from its shapes (`ldm_configs`), or is a fact of the family: the scheduler, the
number of heads. Files written here keep their configs in the header, so that they come back exactly. A tokenizer is
never in a single file.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.autoencoder_base import rename_old_keys
from t2v.models.autoencoder_classes import read_autoencoder_config
from t2v.models.base import Header, load_header, load_state_dict, save_state_dict
from t2v.models.checkpoint import Checkpoint, Part
from t2v.models.detection import refuse_other_kinds
from t2v.models.ldm_configs import Shapes, autoencoder_config, clip_config, open_clip_config, unet_config
from t2v.models.ldm_names import autoencoder_modules, inverse, open_clip_modules, rename, unet_modules
from t2v.models.unet import VideoUNet, VideoUNetConfig

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
UNET_PREFIXES = (UNET, "diffusion_model.", "")  # the last: not wrapped
VAE_PREFIXES = (VAE, "vae.")
EMA = "model_ema."
BARE_UNET_KEY = re.compile(r"(time_embed|input_blocks|middle_block|output_blocks|out)\.")
LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.")
IN_PROJ = re.compile(r"(text_model\.encoder\.layers\.\d+\.self_attn)\.in_proj_(weight|bias)")
Q_PROJ = re.compile(r"(text_model\.encoder\.layers\.\d+\.self_attn)\.q_proj\.(weight|bias)")
VAE_ATTENTION = re.compile(r"(?:en|de)coder\.mid\.attn_1\.(?:q|k|v|proj_out)\.weight")
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def read_configs(shapes: Shapes, metadata: Mapping[str, str], path: str | Path) -> dict[str, dict[str, Any]]:
    """`text_encoder`, `unet`, `vae` and `scheduler` configs of a file, from its header: `shapes` and `metadata`.

    Where Stable Diffusion 2 does not say what it predicts, the scheduler has no `prediction_type`.
    """
    refuse_other_kinds(shapes, path)
    if "configs" in metadata:
        return _written_configs(metadata["configs"], path)
    try:
        parts = split(shapes)
        _check_parts(parts)
        text = clip_config(_with_prefix(parts["clip"])) if parts["clip"] else open_clip_config(parts["open_clip"])
        unet = unet_config(parts["unet"])
        if unet["in_channels"] == 9:
            raise InputError("it is an inpainting model, 9 channels in: use a plain Stable Diffusion 1 or 2 checkpoint")
        configs = {"text_encoder": text, "unet": unet, "vae": autoencoder_config(parts["vae"])}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return {**configs, "scheduler": _scheduler(metadata, unet["use_linear_projection"])}


def check_single_file(path: str | Path) -> None:
    """Raise InputError for what `read_single_file` would refuse by the header, without reading the weights."""
    header = load_header(path)
    read_configs(header.shapes, header.metadata, path)


def _check_parts(parts: Mapping[str, Any]) -> None:
    lacking = [] if parts["vae"] else ["autoencoder"]
    lacking += [] if parts["clip"] or parts["open_clip"] else ["text encoder"]
    if lacking:
        raise InputError(f"it holds a U-Net but no {' and no '.join(lacking)}: give a whole checkpoint")


def _written_configs(text: str, path: str | Path) -> dict[str, dict[str, Any]]:
    try:
        configs = json.loads(text)
        return {name: dict(configs[name]) for name in ("text_encoder", "unet", "vae", "scheduler")}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: the configs in its header are broken: convert the model folder again") from error


def _scheduler(metadata: Mapping[str, str], is_second: bool) -> dict[str, Any]:
    """Of the family; the header of some tools' files says what the network predicts."""
    names = {"epsilon": "epsilon", "v": "v_prediction"}
    said = names.get(metadata.get("modelspec.prediction_type", ""))
    scheduler = SCHEDULER | ({"prediction_type": said} if said else {})
    if is_second and said is None:
        del scheduler["prediction_type"]
    return scheduler


def split(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Tensors (or shapes) by network, without its prefix; what belongs to none, as noise schedules do, is left out."""
    parts: dict[str, dict[str, Any]] = {"unet": {}, "vae": {}, "clip": {}, "open_clip": {}}
    unet_prefix = next(
        prefix for prefix in UNET_PREFIXES if prefix == "" or any(name.startswith(prefix) for name in tensors)
    )
    for name, tensor in tensors.items():
        if unet_prefix and name.startswith(unet_prefix):
            parts["unet"][name.removeprefix(unet_prefix)] = tensor
        elif not unet_prefix and BARE_UNET_KEY.match(name):
            parts["unet"][name] = tensor
        elif name.startswith(VAE_PREFIXES) and not name.startswith("first_stage_model.loss."):
            parts["vae"][name.split(".", 1)[1]] = tensor
        elif name.startswith(CLIP):
            parts["clip"][name.removeprefix(CLIP)] = tensor
        elif name.startswith(OPEN_CLIP):
            parts["open_clip"][name.removeprefix(OPEN_CLIP)] = tensor
    return parts


def headers_of_parts(header: Header) -> dict[str, Header]:
    """The header of each network, `text_encoder`, `unet` and `vae`."""
    names = split({name: name for name in header.shapes})
    text = names["clip"] or names["open_clip"]
    found = {"text_encoder": text, "unet": names["unet"], "vae": names["vae"]}
    return {part: header.select(tensors.values()) for part, tensors in found.items()}


def use_ema(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with those of the U-Net replaced by their moving average, which files of training runs also hold.

    Its names are those of the U-Net without dots: `model_ema.diffusion_modelinput_blocks00weight`.
    """
    averaged = {name: tensor for name, tensor in weights.items() if not name.startswith(EMA)}
    for name in weights:
        if name.startswith(UNET):
            ema = EMA + name.removeprefix("model.").replace(".", "")
            if ema not in weights:
                raise InputError(f"the checkpoint has no moving average of {name}: convert it without --ema")
            averaged[name] = weights[ema]
    return averaged


def read_single_file(path: str | Path) -> Checkpoint:
    """Read a single file; InputError for another family, missing parts, or what is not a safetensors file."""
    return from_ldm(load_state_dict(path), load_header(path).metadata, path)


def from_ldm(weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str], path: str | Path) -> Checkpoint:
    """A checkpoint from the tensors of a single file and its header's metadata; `path` is what messages call it."""
    configs = read_configs({name: tuple(tensor.shape) for name, tensor in weights.items()}, metadata, path)
    parts = split(weights)
    unet = rename(parts["unet"], inverse(unet_modules(VideoUNetConfig.from_dict(configs["unet"]))))
    vae = rename(parts["vae"], inverse(autoencoder_modules(read_autoencoder_config(configs["vae"]))))
    text = _with_prefix(parts["clip"]) if parts["clip"] else _from_open_clip(parts["open_clip"], configs)
    weights_of = {"text_encoder": text, "unet": unet, "vae": rename_old_keys(vae)}
    built = {name: Part(configs[name], tensors) for name, tensors in weights_of.items()}
    checkpoint = Checkpoint(built, configs["scheduler"])
    if "prediction_type" not in checkpoint.scheduler:
        _complete(checkpoint, str(path))
    return checkpoint


def _with_prefix(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """CLIP's names with `text_model.`, which some merges leave out; without the positions that old files store."""
    return {
        "text_model." + name.removeprefix("text_model."): tensor
        for name, tensor in tensors.items()
        if not name.endswith("position_ids")
    }


def _from_open_clip(weights: Mapping[str, torch.Tensor], configs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """OpenCLIP's text model as transformers has it; its last layer and what follows it are not used."""
    num_layers = configs["text_encoder"]["num_hidden_layers"]
    used = {
        name: tensor
        for name, tensor in weights.items()
        if name not in ("text_projection", "logit_scale")
        and not ((match := LAYER.match(name)) and int(match[1]) >= num_layers)
    }
    renamed = {}
    for name, tensor in rename(used, inverse(open_clip_modules(num_layers))).items():
        if match := IN_PROJ.fullmatch(name):
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{match[1]}.{part}_proj.{match[2]}"] = third
        else:
            renamed[name] = tensor
    return renamed


def _complete(checkpoint: Checkpoint, what: str) -> None:
    """Find out what a Stable Diffusion 2 predicts, and the picture size that goes with it.

    At the last timestep the input is nearly pure noise: a network that predicts the noise gives its input back, one
    that predicts v = alpha epsilon - sigma x_0 does not.
    """
    part = checkpoint.parts["unet"]
    unet = VideoUNet.from_parts(part.config, part.weights, what).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, unet.config.in_channels, 16, 16, generator=generator)
    with torch.inference_mode():
        output = unet(x, 999, torch.zeros(1, 2, unet.config.cross_attention_dim))
    pairs = torch.stack([x.flatten(), output[:, : x.shape[1]].flatten()])
    correlation = torch.corrcoef(pairs)[0, 1]
    epsilon = bool(correlation > 0.5)
    checkpoint.scheduler["prediction_type"] = "epsilon" if epsilon else "v_prediction"
    part.config["sample_size"] = 64 if epsilon else 96


def write_single_file(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a single file that tools for the LDM layout open; weights keep their type, to the bit."""
    configs = {name: part.config for name, part in checkpoint.parts.items()} | {"scheduler": checkpoint.scheduler}
    save_state_dict(path, to_ldm(checkpoint), metadata={"configs": json.dumps(configs)})


def to_ldm(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The tensors of a single file."""
    unet, vae, text = (checkpoint.parts[name] for name in ("unet", "vae", "text_encoder"))
    config = VideoUNetConfig.from_dict(unet.config)
    tensors = {UNET + name: tensor for name, tensor in rename(unet.weights, unet_modules(config)).items()}
    modules = autoencoder_modules(read_autoencoder_config(vae.config))
    for name, tensor in rename(rename_old_keys(vae.weights), modules).items():
        kernel = VAE_ATTENTION.fullmatch(name) and tensor.ndim == 2
        tensors[VAE + name] = tensor[:, :, None, None] if kernel else tensor
    words = _with_prefix(text.weights)
    if config.use_linear_projection:
        layers = text.config["num_hidden_layers"]
        words = rename(_join_projections(words), open_clip_modules(layers))
    prefix = OPEN_CLIP if config.use_linear_projection else CLIP
    return tensors | {prefix + name: tensor for name, tensor in words.items()}


def _join_projections(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    joined = {}
    for name, tensor in weights.items():
        if match := Q_PROJ.fullmatch(name):
            parts = [weights[f"{match[1]}.{part}_proj.{match[2]}"] for part in "qkv"]
            joined[f"{match[1]}.in_proj_{match[2]}"] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            joined[name] = tensor
    return joined
