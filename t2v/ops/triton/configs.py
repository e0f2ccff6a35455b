"""Tile sizes of the kernels: a fixed table, nothing is tuned at run time.

Chosen by registers and shared memory: each compiles for compute capability 8.0 and 9.0 without spilling.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class AttentionConfig:
    """A tile of PX pixels by FP frames, a power of two; QR of its rows are queries at a time.

    A head is taken in PARTS parts: all of W columns but the last, of LAST.
    """

    FP: int
    PX: int
    QR: int
    W: int
    LAST: int
    PARTS: int
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
    if backward:
        pixels, rows, width = max(1, 32 // frames), 32 if frames <= 32 else 16, 32
        num_warps = 4 if frames <= 64 else 8
    else:
        pixels, rows, width, num_warps = max(1, 64 // frames), 64, *((64, 4) if frames <= 64 else (32, 8))
    return AttentionConfig(frames, pixels, rows, *_parts(head_dim, width), num_warps)


def _parts(head_dim: int, widest: int) -> tuple[int, int, int]:
    """W, LAST and PARTS for a head: powers of two, at least 16."""
    width = min(widest, max(16, 1 << (head_dim.bit_length() - 1)))
    parts = -(-head_dim // width)
    rest = head_dim - (parts - 1) * width
    return width, max(16, 1 << (rest - 1).bit_length()), parts


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
