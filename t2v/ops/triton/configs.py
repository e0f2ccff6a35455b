"""Tile sizes of the kernels: a fixed table, nothing is tuned at run time.

Chosen by registers and shared memory: each compiles for compute capability 8.0, 9.0 and 10.0, in bfloat16, float16 and
float32, and spills nothing. `t2v tune` measures others on the GPU at hand; `t2v.ops.triton.tuned` keeps what it finds.
"""

from dataclasses import asdict, dataclass

CHUNK = 64  # pixels of which group norm's statistics are made first
MOST_REGISTERS = 255  # that a thread can have


def _check(config: object, **rules: bool) -> None:
    for rule, kept in rules.items():
        if not kept:
            raise ValueError(f"{config}: not {rule.replace('_', ' ')}")


def _powers(*numbers: int) -> bool:
    return all(type(number) is int and number > 0 and number & (number - 1) == 0 for number in numbers)


@dataclass(frozen=True)
class AttentionConfig:
    """A tile of PX pixels by FP frames, a power of two; QR of its rows are queries at a time, W columns of a head.

    maxnreg: registers that a thread may take; None leaves them to the assembler, which spills a few bytes where that
    lets more programs run side by side.
    """

    FP: int
    PX: int
    QR: int
    W: int
    num_warps: int
    maxnreg: int | None = None

    def __post_init__(self) -> None:
        _check(self, powers_of_two=_powers(self.FP, self.PX, self.QR, self.W, self.num_warps))
        _check(self, rows_in_blocks_of_16_or_more=16 <= self.QR <= self.PX * self.FP, parts_of_16=self.W >= 16)
        _check(self, at_most_255_registers=self.maxnreg is None or self.maxnreg in range(16, MOST_REGISTERS + 1))

    def options(self) -> dict[str, int]:
        """Keyword arguments of a launch."""
        return {name: size for name, size in asdict(self).items() if size is not None} | {"num_stages": 1}

    @property
    def blocks(self) -> int:
        """Blocks of QR rows in a tile."""
        return self.PX * self.FP // self.QR

    @property
    def bias_programs(self) -> int:
        """Programs per head that share the gradient of a bias: each has a slice of FP * FP numbers of its own."""
        return max(16, 512 // self.FP)

    @property
    def backward_with_bias(self) -> bool:
        """Whether the backward pass can sum the gradient of a bias: over all pixels of a tile at once."""
        return self.PX == 1 or self.QR == self.PX * self.FP


def attention_config(
    num_frames: int, head_dim: int, backward: bool, biased: bool = False, itemsize: int = 2
) -> AttentionConfig:
    """The tile for a length and a head size, with a bias or without, of elements of two bytes or of four."""
    frames = 1 << (num_frames - 1).bit_length()
    if itemsize == 4:  # not for the matrix units: a thread holds whole rows and columns of a product
        rows, queries, width = max(frames, 16), 16, 16
        num_warps = min(rows // 8, 8)
    elif backward:
        rows, queries, width = max(frames, 32), 32 if frames < 32 else 16, 32
        num_warps = 4 if rows == 32 or head_dim == 64 or (rows == 64 and head_dim < 64) else 8
    else:
        rows, queries = max(frames, 64), 64
        width, num_warps = 64 if head_dim == 128 and rows == 64 else 32, 4 if rows == 64 else 8
    width = 16 if head_dim <= 16 else width
    registers = _registers(frames, backward, biased, itemsize)
    return AttentionConfig(frames, rows // frames, queries, width, num_warps, registers)


def _registers(frames: int, backward: bool, biased: bool, itemsize: int) -> int | None:
    """The limit with which none of these builds spills, by trial."""
    if itemsize == 2 and frames <= 16 and not biased:
        return None
    if itemsize == 2 and frames > 64 and not backward:
        return None if biased else 224
    return MOST_REGISTERS


@dataclass(frozen=True)
class NormConfig:
    """A tile of BC channels; its rows are the chunks that statistics are made of."""

    BC: int
    num_warps: int

    def __post_init__(self) -> None:
        _check(self, powers_of_two=_powers(self.BC, self.num_warps))

    def options(self) -> dict[str, int]:
        """Keyword arguments of a launch."""
        return asdict(self)


NORM_CONFIG = NormConfig(BC=64, num_warps=4)  # 64 channels divide every width of Stable Diffusion


@dataclass(frozen=True)
class ConvConfig:
    """A tile of BM pixels by BN output channels, made in steps of BK input channels."""

    BM: int
    BN: int
    BK: int
    num_warps: int
    num_stages: int

    def __post_init__(self) -> None:
        _check(self, powers_of_two=_powers(self.BM, self.BN, self.BK, self.num_warps))
        _check(self, a_multiple_of_64_pixels=self.BM >= 64, columns_of_16=self.BN >= 16 and self.BK >= 16)
        _check(self, one_to_eight_stages=1 <= self.num_stages <= 8)

    def options(self) -> dict[str, int]:
        """Keyword arguments of a launch."""
        return asdict(self)


def conv_config(out_channels: int, pixels: int, itemsize: int = 2) -> ConvConfig:
    """The tile for a convolution over frames: 64 pixels where a frame has no more, columns that divide the channels,
    and 128 bytes of input channels, so that three stages fit into the 99 KB of compute capability 8.6 and 8.9.
    """
    wide, depth = out_channels % 128 == 0, 128 // itemsize
    if pixels <= 64:
        return ConvConfig(64, 128 if wide else 64, depth, num_warps=4, num_stages=3)
    return ConvConfig(128, 128 if wide else 64, depth, num_warps=8 if wide else 4, num_stages=3)


Config = AttentionConfig | NormConfig | ConvConfig
