"""Tile sizes of the kernels: a fixed table, nothing is tuned at run time.

Chosen by registers and shared memory: each compiles for compute capability 8.0 and 9.0 without spilling.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class AttentionConfig:
    """A tile of PX pixels by FP frames, a power of two; QR of its rows are queries at a time, W columns of a head."""

    FP: int
    PX: int
    QR: int
    W: int
    num_warps: int

    def options(self) -> dict[str, int]:
        """Keyword arguments of a launch."""
        return {**asdict(self), "num_stages": 1}

    @property
    def blocks(self) -> int:
        """Blocks of QR rows in a tile."""
        return self.PX * self.FP // self.QR

    @property
    def bias_programs(self) -> int:
        """Programs per head that share the gradient of a bias: each has a slice of FP * FP numbers of its own."""
        return max(16, 512 // self.FP)


def attention_config(num_frames: int, head_dim: int, backward: bool) -> AttentionConfig:
    """The tile for a length and a head size."""
    frames = 1 << (num_frames - 1).bit_length()
    rows = max(frames, 32 if backward else 64)
    if backward:
        queries, num_warps = (32 if rows == 32 else 16), (4 if rows <= 64 or head_dim == 64 else 8)
    else:
        queries, num_warps = 64, (4 if rows == 64 else 8)
    wide = head_dim == 128 and rows == 64 and not backward  # with parts of 32 it spills
    width = 16 if head_dim <= 16 else 64 if wide else 32
    return AttentionConfig(frames, rows // frames, queries, width, num_warps)


NORM_OPTIONS = {"BC": 64, "num_warps": 4}  # 64 channels divide every width of Stable Diffusion


@dataclass(frozen=True)
class ConvConfig:
    """A tile of BM pixels by BN output channels, made in steps of BK input channels."""

    BM: int
    BN: int
    BK: int
    num_warps: int
    num_stages: int

    def options(self) -> dict[str, int]:
        """Keyword arguments of a launch."""
        return asdict(self)


def conv_config(in_channels: int, out_channels: int, pixels: int) -> ConvConfig:
    """The tile for a convolution over frames: 64 pixels where a frame has no more, columns that divide the channels."""
    wide = out_channels % 128 == 0
    if pixels <= 64:
        return ConvConfig(64, 128 if wide else 64, 64, num_warps=4, num_stages=3)
    return ConvConfig(128, 128 if wide else 64, 64, num_warps=8 if wide else 4, num_stages=3)
