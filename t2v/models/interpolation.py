"""The frame-interpolation network (Make-A-Video, section 3.3): the temporal U-Net, told which frames are known."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import one_hot

from t2v.errors import InputError
from t2v.models.base import check_state_dict, load_config, load_state_dict, save_model
from t2v.models.inflate import temporal_parameters
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig, is_temporal


class KnownFramesConv(nn.Conv2d):
    """`conv_in` with more input columns, zero at first: for the known frames and the mask.

    The new columns are a weight of their own, so that those of the image model keep their key, and the sum of both
    convolutions is exactly the old one while the new columns are zero.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.known = nn.Conv2d(in_channels + 1, out_channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.known.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 2C + 1, H, W) -> (N, O, H, W)."""
        noisy, known = x.split((self.in_channels, self.in_channels + 1), dim=1)
        return super().forward(noisy) + self.known(known)


class InterpolationUNet(VideoUNet):
    """A temporal U-Net whose input is that of `network_input`: (B, 2C + 1, F, H, W).

    True times of the frames are its `positions`, in units of 1 / fps.
    """

    conv_in: KnownFramesConv

    def __init__(self, config: VideoUNetConfig, motion: MotionConfig) -> None:
        super().__init__(config, motion)
        self.conv_in = KnownFramesConv(config.in_channels, config.block_out_channels[0])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def network_input(x: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the network is given: [noisy latents | known frames, and a hint at the others | mask].

    Args:
        x: noisy latents (B, C, F, H, W).
        shown: latents (B, C, F, H, W): known frames, and a guess at the others, such as `crossfaded`; the paper leaves
            these zero (section 3.3). Zero without any known frame.
        mask: (B, F), 1 where a frame is known, 0 where it is to be made. Known frames with noise of standard deviation
            s in them (training only) have 1 - s.

    Returns: (B, 2C + 1, F, H, W).
    """
    return torch.cat([x, shown.to(x), mask[:, None, :, None, None].to(x).expand(-1, -1, -1, *x.shape[3:])], dim=1)


def crossfaded(known: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Known frames, and between them their mix by the time to each; beyond them the nearest one.

    The network then starts from a cross-fade, and what stands still is at hand in every frame.

    Args:
        known: latents (B, C, F, H, W); those of unknown frames are not looked at.
        mask: (B, F), above 0 where a frame is known.
        positions: (B, F), of the frames in time, ascending.

    Returns: (B, C, F, H, W); zero without any known frame.
    """
    is_known = mask > 0
    only_known = torch.where(is_known[:, None, :, None, None], known, 0)
    return torch.einsum("b f g, b c g h w -> b c f h w", fading(is_known, positions).to(known), only_known)


def fading(known: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """How much of every known frame a cross-fade shows in each frame.

    Args:
        known: boolean (B, F).
        positions: (B, F), of the frames in time, ascending.

    Returns: (B, F, F), rows of sum 1, or 0 where no frame is known.
    """
    f = known.shape[1]
    places = torch.arange(f, device=known.device)
    before = torch.where(known, places, -1).cummax(dim=1).values  # -1: none
    after = torch.where(known, places, f).flip(1).cummin(dim=1).values.flip(1)  # f: none
    start, end = positions.gather(1, before.clamp(min=0)), positions.gather(1, after.clamp(max=f - 1))
    share = (positions - start) / torch.where(end > start, end - start, 1)  # of the frame after
    share = torch.where(before < 0, 1.0, torch.where(after == f, 0.0, share))[..., None]
    return (one_hot(before + 1, f + 2) * (1 - share) + one_hot(after + 1, f + 2) * share)[..., 1:-1]


def frame_positions(timestamps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Frame rate (B,) and positions (B, F) of frames at `timestamps` (B, F), seconds, ascending.

    The rate is the mean one, so that positions run from 0 to F - 1 and are whole numbers where the spacing is even.
    """
    times = timestamps - timestamps[:, :1]
    fps = (times.shape[1] - 1) / times[:, -1]
    return fps, times * fps[:, None]


def widen(unet: VideoUNet) -> InterpolationUNet:
    """The interpolation network that starts from a temporal U-Net and at first gives its outputs exactly.

    The weights are shared with `unet`, not copied.

    Raises:
        InputError: the U-Net has no temporal layers.
    """
    if unet.motion is None:
        raise InputError("the interpolation network starts from a temporal U-Net: train or inflate one first")
    with torch.device("meta"):
        wide = InterpolationUNet(unet.config, unet.motion)
    state_dict = unet.state_dict()
    weight = state_dict["conv_in.weight"]
    columns = weight.new_zeros(weight.shape[0], weight.shape[1] + 1, *weight.shape[2:])
    wide.load_state_dict({**state_dict, "conv_in.known.weight": columns}, assign=True)
    return wide.train(unet.training)


def interpolation_parameters(unet: InterpolationUNet) -> dict[str, nn.Parameter]:
    """The parameters in which the network differs from its image U-Net, by name: temporal ones and new columns."""
    columns = {f"conv_in.known.{name}": parameter for name, parameter in unet.conv_in.known.named_parameters()}
    return {**temporal_parameters(unet), **columns}


def _is_own(name: str) -> bool:
    return is_temporal(name) or name.startswith("conv_in.known.")


def save_interpolation(
    unet: InterpolationUNet,
    folder: str | Path,
    metadata: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write what differs from the image U-Net: `config.json` and `diffusion_pytorch_model.safetensors`.

    Args:
        metadata: JSON values to keep in the config, such as the scheduler it was trained with.
        dtype: storage type; None keeps the network's.
    """
    assert unet.motion is not None
    config = {**(metadata or {}), "_class_name": "Interpolation", "motion": unet.motion.to_dict()}
    weights = {name: tensor for name, tensor in unet.state_dict().items() if _is_own(name)}
    save_model(folder, config, weights, dtype=dtype, metadata={"config": json.dumps(config)})


def load_interpolation_config(folder: str | Path) -> dict[str, Any]:
    """The config of an `interpolation/` folder, metadata included; InputError where it is of something else."""
    config = load_config(folder)
    if (kind := config.get("_class_name")) != "Interpolation":
        raise InputError(f"{folder}: _class_name is {kind!r}, expected 'Interpolation': give weights made by t2v")
    return config


def load_interpolation(unet: VideoUNet, folder: str | Path) -> InterpolationUNet:
    """The interpolation network of a folder on the image part of `unet`, which it shares and leaves as it is.

    Raises:
        InputError: the folder is missing or broken, or belongs to another U-Net: the first mismatch is named.
    """
    motion = MotionConfig.from_dict(load_interpolation_config(folder).get("motion", {}))
    weights = load_state_dict(folder)
    with torch.device("meta"):
        wide = InterpolationUNet(unet.config, motion)
    spatial = {name: tensor for name, tensor in unet.state_dict().items() if not is_temporal(name)}
    check_state_dict(wide, {**spatial, **weights}, f"{folder} for this U-Net")
    like = spatial["conv_in.weight"]
    # copied: in the file tensors lie at any address, and products of unaligned ones are rounded otherwise
    own = {name: tensor.to(like.device, like.dtype, copy=True) for name, tensor in weights.items()}
    wide.load_state_dict({**spatial, **own}, assign=True)
    wide.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return wide.train(unet.training)
