"""Random numbers of training: pure functions of (seed, epoch, sample), never of rank, worker or order of calls.

Every sample of every epoch has a 64-bit key; element i of its stream is `splitmix64(key + i * golden)`. The whole batch
is computed at once, on the device of the keys. (Steele, Lea, Flood: "Fast splittable pseudorandom number generators".)
"""

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def splitmix64(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 on int64 bit patterns; elementwise, same shape."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(_MIX_1)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(_MIX_2)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def sample_keys(seed: int, epochs: Tensor, indices: Tensor, stream: str) -> Tensor:
    """Keys of samples: int64 (B,).

    Args:
        seed: of the run.
        epochs: int64 (B,).
        indices: of the samples in their data set, int64 (B,).
        stream: what the numbers are for ("noise", "timestep", ...); different streams are independent.
    """
    golden = _signed(_GOLDEN)
    start = torch.full_like(indices, _signed(seed * _GOLDEN + zlib.crc32(stream.encode())))
    key = splitmix64(start)
    for part in (epochs, indices):
        key = splitmix64((key ^ splitmix64(part + golden)) + golden)
    return key


def _bits(keys: Tensor, count: int) -> Tensor:
    counters = torch.arange(1, count + 1, device=keys.device) * _signed(_GOLDEN)
    return splitmix64(keys[:, None] + counters)


def uniform(keys: Tensor, count: int = 1) -> Tensor:
    """Uniform numbers in [0, 1): fp32 (B, count), 24 random bits each."""
    return ((_bits(keys, count) >> 40) & 0xFFFFFF).float() * 2.0**-24


def integers(keys: Tensor, high: int) -> Tensor:
    """One integer in 0..high-1 for each key: int64 (B,)."""
    return (((_bits(keys, 1)[:, 0] >> 11) & ((1 << 53) - 1)).double() * (high * 2.0**-53)).long()


def normal(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers: fp32 (B, *shape), by Box-Muller from 32-bit uniforms (tails reach 6.6 sigma)."""
    count = math.prod(shape)
    bits = _bits(keys, (count + 1) // 2)
    radius = (((bits >> 32) & 0xFFFFFFFF).float() * 2.0**-32 + 2.0**-33).log_().mul_(-2).clamp_(min=0).sqrt_()
    angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi * 2.0**-32)
    values = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return values[:, :count].reshape(len(keys), *shape)


def permutation(seed: int, epoch: int, count: int) -> Tensor:
    """The order of `count` samples in an epoch: int64 (count,)."""
    key = sample_keys(seed, torch.tensor([epoch]), torch.tensor([count]), "order")
    generator = torch.Generator().manual_seed(int(key) & (2**63 - 1))
    return torch.randperm(count, generator=generator)
