"""What autoencoders share: frames to latents and back, frame by frame, whole or in tiles, in the public format."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial, reduce
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from t2v.errors import InputError
from t2v.models.autoencoder_blocks import Decoder, Encoder
from t2v.models.base import check_state_dict, load_config, load_state_dict, save_model
from t2v.models.config_checks import is_count
from t2v.models.tiles import blend_tiles
from t2v.nn.init import init_parameters

Network = Callable[[Tensor], Tensor]

OLD_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
OLD_ATTENTION_KEY = re.compile(r"^((?:en|de)coder\.mid_block\.attentions\.0\.)(query|key|value|proj_attn)\.")
ATTENTION_WEIGHT = re.compile(r"^(?:en|de)coder\.mid_block\.attentions\.0\.to_(?:q|k|v|out\.0)\.weight$")
UNSUPPORTED_FIELDS = ("shift_factor", "latents_mean", "latents_std")


@dataclass(frozen=True)
class AutoencoderBaseConfig:
    """`vae/config.json` of a public model folder: the fields of every class."""

    class_name: ClassVar[str]  # what other tools open it as
    counts: ClassVar[tuple[str, ...]] = (
        "in_channels",
        "out_channels",
        "layers_per_block",
        "latent_channels",
        "norm_num_groups",
    )

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ()  # empty: DownEncoderBlock2D at every level
    up_block_types: tuple[str, ...] = ()  # empty: UpDecoderBlock2D at every level
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int = 32  # pixels of a training image; other tools derive their tile size from it
    scaling_factor: float = 0.18215  # latents * scaling_factor have about unit variance
    force_upcast: bool = False  # float16 weights overflow: run in float32
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        self._check_counts()
        num_levels = len(self.block_out_channels)
        for name, wanted in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
            types = getattr(self, name) or (wanted,) * num_levels
            if types != (wanted,) * num_levels:
                raise InputError(
                    f"autoencoder config: {name} is {list(types)}, supported is {wanted} at each of {num_levels} levels"
                )
            object.__setattr__(self, name, types)
        if self.act_fn != "silu":
            raise InputError(f"autoencoder config: act_fn is {self.act_fn!r}, supported is 'silu'")
        for channels in self.block_out_channels:
            if channels % self.norm_num_groups:
                raise InputError(
                    f"autoencoder config: block_out_channels {list(self.block_out_channels)} must be multiples of "
                    f"norm_num_groups {self.norm_num_groups}"
                )

    def _check_counts(self) -> None:
        widths = self.block_out_channels
        if not isinstance(widths, tuple) or not widths:
            raise InputError(f"autoencoder config: block_out_channels must be a list of widths, got {widths!r}")
        values = [(name, getattr(self, name)) for name in self.counts] + [
            ("block_out_channels", width) for width in widths
        ]
        for name, value in values:
            if not is_count(name, value):
                raise InputError(f"autoencoder config: {name} has {value!r}, expected usual positive integers")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """From a `config.json`; fields that do not change the network are dropped, unsupported values refused."""
        for name in UNSUPPORTED_FIELDS:
            if config.get(name) is not None:
                raise InputError(f"autoencoder config: {name} is {config[name]}, supported is null (Stable Diffusion)")
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in config.items() if name in known
        }
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """A `config.json` that other tools open."""
        return {"_class_name": self.class_name, **asdict(self)}


@dataclass(frozen=True)
class DiagonalGaussian:
    """A normal distribution with independent components over latents.

    `mean` and `logvar` have shape `(N, C, h, w)` or `(B, C, F, h, w)`; `logvar` is clamped to [-30, 20], or -inf where
    there is nothing to draw.
    """

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Self:
        """From mean and log-variance stacked along axis 1; at least float32, since the divergence sums thousands."""
        if moments.dtype in (torch.float16, torch.bfloat16):
            moments = moments.float()
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    @classmethod
    def at(cls, mean: Tensor) -> Self:
        """All at `mean`, with a standard deviation of 0; at least float32, as from moments."""
        mean = mean.float() if mean.dtype in (torch.float16, torch.bfloat16) else mean
        return cls(mean, torch.full_like(mean, -torch.inf))

    @property
    def std(self) -> Tensor:
        """Standard deviations, of the shape of `mean`."""
        return torch.exp(0.5 * self.logvar)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Latents drawn with `generator`, on the generator's device first, then moved to that of `mean`."""
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean.device)

    def mode(self) -> Tensor:
        """The most likely latents: `mean`."""
        return self.mean

    def kl(self) -> Tensor:
        """Divergence from the standard normal in nats, summed over all axes but the first: `(N,)`."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1.0 - self.logvar).flatten(1).sum(1)


def rename_old_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict with today's attention names (`to_q`, not `query`) and attention weights as matrices, not kernels."""
    renamed = {}
    for name, tensor in state_dict.items():
        name = OLD_ATTENTION_KEY.sub(lambda match: f"{match[1]}{OLD_ATTENTION_NAMES[match[2]]}.", name)
        if ATTENTION_WEIGHT.match(name) and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]
        renamed[name] = tensor
    return renamed


def _in_dtype(modules: Sequence[nn.Module], dtype: torch.dtype | None) -> Network:
    """`modules`, one after the other, as a function that computes in `dtype` whatever their weights are stored in; None
    leaves them as they are."""
    if dtype is None:
        return lambda x: reduce(lambda y, module: module(y), modules, x)
    parameters = [{name: each.to(dtype) for name, each in module.named_parameters()} for module in modules]

    def call(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            for module, values in zip(modules, parameters, strict=True):
                x = functional_call(module, values, (x.to(dtype),))
            return x

    return call


def _by_frame(network: Network, x: Tensor, chunk_size: int | None) -> Tensor:
    """Apply a network of `(N, C, H, W)` to that or to `(B, C, F, H, W)`, at most `chunk_size` frames at a time."""
    frames = rearrange(x, "b c f h w -> (b f) c h w") if x.ndim == 5 else x
    if chunk_size is None or len(frames) <= chunk_size:
        out = network(frames)
    else:
        out = torch.cat([network(chunk) for chunk in frames.split(chunk_size)])
    return rearrange(out, "(b f) c h w -> b c f h w", b=len(x)) if x.ndim == 5 else out


@torch.no_grad()
def fold_normalization_(quant_conv: nn.Conv2d, post_quant_conv: nn.Conv2d, mean: Tensor, std: Tensor) -> None:
    """Have `quant_conv` give (latents - mean) / std in its first channels, and `post_quant_conv` undo that.

    Args:
        mean, std: `(C,)`.
    """
    weight, bias = quant_conv.weight, quant_conv.bias
    inner_weight, inner_bias = post_quant_conv.weight, post_quant_conv.bias
    assert bias is not None and inner_bias is not None
    mean, std = mean.to(weight), std.to(weight)
    channels = len(mean)
    weight[:channels] /= std[:, None, None, None]
    bias[:channels] = (bias[:channels] - mean) / std
    inner_bias += inner_weight[:, :, 0, 0] @ mean
    inner_weight *= std[:, None, None]


class Autoencoder(nn.Module):
    """Frames in [-1, 1] to latents and back.

    Latents are raw: the caller multiplies them by `config.scaling_factor` after `encode` and divides before `decode`.
    """

    config_class: ClassVar[type[AutoencoderBaseConfig]]
    num_moments: ClassVar[int]  # that the encoder gives of each latent

    def __init__(self, config: AutoencoderBaseConfig) -> None:
        super().__init__()
        self.config = config
        blocks: dict[str, Any] = {
            "block_out_channels": config.block_out_channels,
            "layers_per_block": config.layers_per_block,
            "norm_num_groups": config.norm_num_groups,
            "mid_block_add_attention": config.mid_block_add_attention,
        }
        self.encoder = Encoder(config.in_channels, self.num_moments * config.latent_channels, **blocks)
        self.decoder = Decoder(config.latent_channels, config.out_channels, **blocks)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that `encode` gives and `decode` takes."""
        raise NotImplementedError

    def _encoding(self) -> list[nn.Module]:
        """What frames go through, in order."""
        raise NotImplementedError

    def _distribution(self, encoded: Tensor) -> DiagonalGaussian:
        """Of the latents, from what the last module of `_encoding` gives."""
        raise NotImplementedError

    def _decoding(self) -> list[nn.Module]:
        """What latents go through, in order."""
        raise NotImplementedError

    def normalize_latents_(self, mean: Tensor, std: Tensor) -> None:
        """Fold a normalisation of the latents into the weights, so that `config.scaling_factor` is 1.

        Args:
            mean, std: `(C,)`, statistics of raw latents.
        """
        raise NotImplementedError

    @property
    def downsample_factor(self) -> int:
        """Pixels per latent position, along height and along width."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.encoder.conv_in.weight.dtype

    def encode(self, x: Tensor, chunk_size: int | None = None, dtype: torch.dtype | None = None) -> DiagonalGaussian:
        """Distribution of the latents of frames.

        Args:
            x: `(N, 3, H, W)` or `(B, 3, F, H, W)` in [-1, 1], H and W multiples of `downsample_factor`.
            chunk_size: frames in memory at a time; None takes all at once.
            dtype: compute in this type; None takes that of the weights (float32 if they are float16 and
                `config.force_upcast`).

        Returns:
            Distribution over raw latents, `(N, C, h, w)` or `(B, C, F, h, w)`.
        """
        height, width = x.shape[-2:]
        factor = self.downsample_factor
        if height % factor or width % factor:
            raise InputError(f"frame size is {width}x{height}, width and height must be multiples of {factor}")
        dtype = self._compute_dtype(dtype)
        network = _in_dtype(self._encoding(), dtype)
        return self._distribution(_by_frame(network, x.to(dtype or self.dtype), chunk_size))

    def decode(
        self,
        z: Tensor,
        chunk_size: int | None = 8,
        tile_size: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Frames of raw latents.

        Args:
            z: `(N, C, h, w)` or `(B, C, F, h, w)`.
            chunk_size: frames decoded at a time; None takes all at once.
            tile_size: latent positions along a side of a tile; larger frames are decoded in blended tiles. None: never.
            dtype: compute in this type; None takes that of the weights (float32 if they are float16 and
                `config.force_upcast`).

        Returns:
            `(N, 3, H, W)` or `(B, 3, F, H, W)`, about in [-1, 1], not clamped.
        """
        dtype = self._compute_dtype(dtype)
        modules = _in_dtype(self._decoding(), dtype)

        def network(latents: Tensor) -> Tensor:
            return modules(latents.contiguous(memory_format=torch.channels_last))

        if tile_size is not None and max(z.shape[-2:]) > tile_size:
            tiled = partial(blend_tiles, network, tile_size=tile_size, factor=self.downsample_factor)
            return _by_frame(tiled, z.to(dtype or self.dtype), chunk_size)
        return _by_frame(network, z.to(dtype or self.dtype), chunk_size)

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, DiagonalGaussian]:
        """Reconstruction of `x` from sampled latents, and their distribution, all frames at once."""
        distribution = self.encode(x)
        return self.decode(distribution.sample(generator), chunk_size=None), distribution

    def _compute_dtype(self, dtype: torch.dtype | None) -> torch.dtype | None:
        if dtype is None and self.config.force_upcast and self.dtype == torch.float16:
            return torch.float32
        return dtype

    def init_weights(self, generator: torch.Generator) -> None:
        """PyTorch's default initialisation of convolutions and matrices, drawn from `generator`."""
        init_parameters(self, generator)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From a public `config.json`, with weights that are yet to be set."""
        return cls(cls.config_class.from_dict(config))

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """Read a `vae/` folder; raises InputError for anything missing, unsupported or not fitting."""
        return cls.from_parts(load_config(folder), load_state_dict(folder), str(folder), dtype)

    @classmethod
    def from_parts(
        cls,
        config: Mapping[str, Any],
        state_dict: Mapping[str, Tensor],
        what: str,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """From a public `config.json` and its weights; `what` is what messages call them."""
        state_dict = rename_old_keys(state_dict)
        with torch.device("meta"):
            model = cls.from_config(config)
        check_state_dict(model, state_dict, what)
        model.load_state_dict(state_dict, assign=True)
        return model.to(dtype=dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a `vae/` folder that other tools open; `dtype` None keeps the type of the weights."""
        save_model(folder, self.config.to_dict(), self.state_dict(), dtype=dtype)
