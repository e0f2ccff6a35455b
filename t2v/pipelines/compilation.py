"""The U-Net compiled by torch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from t2v.errors import InputError
from t2v.models.unet import VideoUNet


def compiled(unet: VideoUNet, backend: str | Callable[..., Any] = "inductor") -> Callable[..., Tensor]:
    """The network as one compiled graph, with the arguments of `VideoUNet.forward`; on a GPU also as one CUDA graph.

    The first call with inputs of a new size compiles, which takes minutes. Numbers are turned into tensors of the
    network's device, so that another timestep or frame rate is no new graph, and nothing is read from the CPU.

    Raises (the calls):
        InputError: torch cannot compile here.
    """
    device = unet.conv_in.weight.device
    mode = "reduce-overhead" if device.type == "cuda" else None
    network = torch.compile(unet, fullgraph=True, dynamic=False, backend=backend, mode=mode)

    def call(x: Tensor, timesteps: Tensor | float, text: Tensor, fps: Tensor | float) -> Tensor:
        timestep, rate = (torch.as_tensor(number, dtype=torch.float32, device=device) for number in (timesteps, fps))
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return network(x, timestep, text, rate).clone()  # the graph's own memory is written by its next call
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            reason = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
            raise InputError(f"the network cannot be compiled here ({reason}): leave --compile out") from error

    return call
