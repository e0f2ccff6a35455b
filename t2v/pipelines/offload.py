"""Where weights are: on the device all the time, or in main memory until a network, or a block of one, is at work."""

import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from t2v.errors import InputError
from t2v.models import autoencoder_blocks
from t2v.models.autoencoder_base import Autoencoder
from t2v.models.motion_module import MotionModule
from t2v.models.vq_model import VectorQuantizer
from t2v.nn import resnet
from t2v.nn.spatial_attention import SpatialTransformer
from t2v.nn.temporal_attention import TemporalAttention
from t2v.nn.temporal_conv import TemporalConvBlock

if TYPE_CHECKING:
    from accelerate.hooks import AlignDevicesHook

LEVELS = ("none", "model", "sequential")
_OWN_BLOCKS = (
    resnet.ResnetBlock,
    resnet.Downsample,
    resnet.Upsample,
    SpatialTransformer,
    TemporalAttention,
    TemporalConvBlock,
    MotionModule,
    autoencoder_blocks.ResnetBlock,
    autoencoder_blocks.AttentionBlock,
    VectorQuantizer,
)
BLOCKS = [*(kind.__name__ for kind in _OWN_BLOCKS), "CLIPEncoderLayer"]  # come and go as one; other layers each alone


class Placement:
    """The device that networks run on, and when their weights are there.

    `none`: always. `model`: those of one network, from when it is brought until another one is. `sequential`: those of
    one block of layers while it runs. The rest stays in main memory, where the networks themselves then hold tensors
    on the meta device: a weight that is used without having been brought is an error. Videos are the same, to the bit.
    """

    def __init__(self, device: torch.device, offload: str = "none") -> None:
        if offload not in LEVELS:
            raise InputError(f"unknown offload {offload!r}: use {', '.join(LEVELS)}")
        if offload != "none" and device.type == "cpu":
            warnings.warn(f"--offload {offload} saves nothing on a CPU: its memory is where weights go", stacklevel=3)
        self.device, self.offload = device, offload
        self._networks: tuple[nn.Module, ...] = ()
        self._weights: dict[nn.Module, AlignDevicesHook] = {}  # of `model`
        self._present: nn.Module | None = None  # of `model`

    @property
    def load_device(self) -> torch.device:
        """Where networks must be before they are placed."""
        return self.device if self.offload == "none" else torch.device("cpu")

    def place(self, *networks: nn.Module) -> None:
        """Take charge of these networks, and give back those that were placed before."""
        if self.offload == "none" or networks == self._networks:
            return
        self.release()
        self._networks = networks
        for network in networks:
            if self.offload == "model":
                self._weights[network] = self._put_away(network)
            else:
                self._place_blocks(network)

    def release(self) -> None:
        """Give all networks back, with their weights in main memory."""
        if not self._networks:
            return
        from accelerate.hooks import remove_hook_from_submodules

        for network in self._networks:
            if self.offload == "model":
                self._weights.pop(network).detach_hook(network)
            else:
                remove_hook_from_submodules(network)
        self._networks, self._present = (), None

    def bring(self, network: nn.Module) -> None:
        """Have the weights of a network, and with `model` those of no other one, on the device from now on."""
        if self.offload != "model" or network is self._present:
            return
        if self._present is not None:
            self._weights[self._present].post_forward(self._present, None)
        self._weights[network].pre_forward(network)
        self._present = network

    def _put_away(self, network: nn.Module) -> "AlignDevicesHook":
        from accelerate.hooks import AlignDevicesHook

        hook = AlignDevicesHook(self.device, offload=True, place_submodules=True)
        hook.init_hook(network)
        return hook

    def _place_blocks(self, network: nn.Module) -> None:
        from accelerate import cpu_offload

        if isinstance(network, Autoencoder) and network.config.force_upcast and network.dtype == torch.float16:
            network.float()  # it would compute on copies of its weights, made before they are there
        cpu_offload(network, self.device, preload_module_classes=BLOCKS)
