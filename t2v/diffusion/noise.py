"""Random numbers that do not depend on the device or on the batch, and noise that the frames of a video share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]


def randn(shape: Sequence[int], generator: Generators) -> Tensor:
    """Standard normal numbers of `shape` (B, ...), fp32 on the CPU.

    Args:
        generator: one CPU generator for the whole batch, or a sequence of B, one per item.
    """
    if isinstance(generator, torch.Generator):
        return torch.randn(tuple(shape), generator=generator)
    assert len(generator) == shape[0], f"{len(generator)} generators for a batch of {shape[0]}"
    return torch.stack([torch.randn(tuple(shape[1:]), generator=item) for item in generator])


@dataclass(frozen=True)
class NoisePrior:
    """What the noise of a video's frames has in common, arXiv 2305.10474 section 4.1; each frame stays standard normal.

    mixed: any two frames correlate by shared_noise, alpha^2 / (1 + alpha^2) of the paper, so that nothing that differs
    between frames has much noise.
    progressive: frames correlate by shared_noise, alpha / sqrt(1 + alpha^2) of the paper, to the power of their
    distance in frames, whatever the rate: what flickers has least noise, and what changes slowly far more.
    """

    shared_noise: float = 0.0  # 0 (independent) to below 1
    kind: str = "mixed"  # or progressive

    def __post_init__(self) -> None:
        assert self.kind in ("mixed", "progressive"), self.kind

    def __str__(self) -> str:
        return f"{self.shared_noise:g} {self.kind}"

    def correlate(self, noise: Tensor) -> Tensor:
        """Noise of this prior from independent noise, both (B, C, F, h, w); a single frame stays as it is."""
        if self.shared_noise == 0:
            return noise
        assert noise.ndim == 5, f"noise of a video is (B, C, F, h, w), got {tuple(noise.shape)}"
        if self.kind == "progressive":
            return self._progressive(noise)
        num_frames = noise.shape[2]
        own = (1 - self.shared_noise) ** 0.5  # these two make the symmetric square root of the covariance
        common = ((1 - self.shared_noise + self.shared_noise * num_frames) ** 0.5 - own) / num_frames
        return own * noise + common * noise.sum(2, keepdim=True)

    def _progressive(self, noise: Tensor) -> Tensor:
        first, *others = noise.unbind(2)
        frames = [first]
        for own in others:
            frames.append(self.shared_noise * frames[-1] + (1 - self.shared_noise**2) ** 0.5 * own)
        return torch.stack(frames, dim=2)


INDEPENDENT = NoisePrior()
