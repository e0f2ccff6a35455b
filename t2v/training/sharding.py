"""Fully sharded training (FSDP2): each process holds a part of every parameter, gradient and optimizer state.

Zhao et al., "PyTorch FSDP" (arXiv 2304.11277), by torch's `fully_shard`. Weights are gathered in fp32 and autocast
works inside, so that the numbers are those of replicated training.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from t2v.models.motion_module import MotionModule
from t2v.nn.resnet import ResnetBlock
from t2v.nn.spatial_attention import SpatialTransformer
from t2v.nn.temporal_attention import TemporalAttention

_UNITS = (ResnetBlock, SpatialTransformer, TemporalAttention, MotionModule)  # gathered, used and let go together


def shard(network: nn.Module, device: torch.device, num_processes: int) -> None:
    """Spread the parameters of a network over the processes, in place; all start from the same values."""
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()  # channels_last weights cannot be spread
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # nothing changes it in place
    mesh = init_device_mesh(device.type, (num_processes,))
    for module in network.modules():
        if isinstance(module, _UNITS):
            fully_shard(module, mesh=mesh)
    # also at the root: gathered weights that stayed would not follow when the averages stand in for them
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be spread; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that may be spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gather(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors, those that were spread on the CPU; empty unless `keep`. Every process must call this."""
    gathered = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if keep:
            gathered[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return gathered


@torch.no_grad()
def fill(target: Tensor, value: Tensor) -> None:
    """Copy a whole `value` into a tensor that may be spread."""
    target.copy_(spread_like(target, value.to(target.device)))


def spread_like(template: Tensor, value: Tensor) -> Tensor:
    """This process's part of a whole `value`, spread as `template` is; `value` where that is not spread."""
    if not isinstance(template, DTensor):
        return value
    return distribute_tensor(value, template.device_mesh, template.placements, src_data_rank=None)


@contextmanager
def whole_parameters(network: nn.Module, keep: bool) -> Iterator[None]:
    """In the block, parameters that were spread are whole, on the CPU, where `keep`; no forward pass there."""
    spread: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                spread.append((module, name, parameter))
    for module, name, parameter in spread:
        full = whole(parameter.detach())
        if keep:
            module._parameters[name] = nn.Parameter(full.cpu(), parameter.requires_grad)
    try:
        yield
    finally:
        for module, name, parameter in spread:
            module._parameters[name] = parameter
