"""`t2v bench`: how fast the ops and the U-Net run on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from t2v.evaluation.op_speed import Case, Measurement

app = typer.Typer(add_completion=False)

NumFrames = Annotated[int, typer.Option(min=1, help="Frames of the videos.")]
Rounds = Annotated[int, typer.Option(min=1, help="Times that each function is timed.")]
Sizes = Annotated[str | None, typer.Option(help="sd15 or mini. [default: sd15 on CUDA, mini elsewhere]")]
Forward = Annotated[bool, typer.Option("--forward", help="Leave the backward passes out.")]

_WIDTH = 140  # of the table, in a narrower terminal too


@app.command()
def bench(
    sizes: Sizes = None,
    num_frames: NumFrames = 16,
    rounds: Rounds = 20,
    forward: Forward = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.AsJson = False,
) -> None:
    """Time each op by each backend, and the U-Net on a video against its image U-Net on the same frames."""
    from t2v.errors import InputError
    from t2v.pipelines.device import dtype_name, resolve_device, resolve_dtype

    place = resolve_device(device or "auto")
    precision = resolve_dtype(dtype or "auto", place)
    sizes = sizes or ("sd15" if place.type == "cuda" else "mini")
    if sizes not in ("sd15", "mini"):
        raise InputError(f"--sizes is {sizes!r}: use sd15 or mini")
    found = _measure(sizes, num_frames, rounds, forward, place, precision)
    if as_json:
        import dataclasses
        import json

        print(json.dumps([dataclasses.asdict(row) for row in found], indent=2))
    else:
        _print(found, f"{sizes} sizes, {num_frames} frames, {dtype_name(precision)}", place)


def _measure(
    sizes: str, num_frames: int, rounds: int, forward: bool, device: "torch.device", dtype: "torch.dtype"
) -> list["Measurement"]:
    import dataclasses

    from t2v.evaluation import op_speed
    from t2v.evaluation.timing import measure_roofline

    roofline = measure_roofline(device, dtype)
    rows: list[Measurement] = []
    for case in _cases(sizes, num_frames, device, dtype):
        if forward:
            case = dataclasses.replace(case, modes=("forward",))
        rows += op_speed.measure(case, rounds, device, roofline)
    return rows


def _cases(sizes: str, num_frames: int, device: "torch.device", dtype: "torch.dtype") -> "Iterator[Case]":
    from t2v.evaluation import op_speed
    from t2v.models.unet import VideoUNetConfig
    from t2v.ops.backend import triton_runs_on

    backends = ("torch", "triton") if triton_runs_on(device) else ("torch",)
    levels = op_speed.SD15_LEVELS if sizes == "sd15" else op_speed.MINI_LEVELS
    network = VideoUNetConfig.from_dict(op_speed.SD15_UNET if sizes == "sd15" else op_speed.MINI_UNET)
    yield from op_speed.op_cases(levels, 2, num_frames, dtype, device, backends)
    yield op_speed.network_case("unet", network, num_frames, levels[0].size, 2, dtype, device)


def _print(rows: list["Measurement"], title: str, device: "torch.device") -> None:
    from rich.console import Console
    from rich.table import Table

    from t2v.evaluation.timing import device_name

    columns = ("case", "mode", "by", "ms", "20 to 80 %", "speed-up", "GB/s", "TFLOP/s", "of roofline")
    table = Table(*columns, title=f"{device_name(device)}, {title}", title_justify="left")
    for column in table.columns[3:]:
        column.justify = "right"
    for row in rows:
        time = row.timing
        spread = f"{time.p20 * 1e3:.3f} to {time.p80 * 1e3:.3f}"
        rates = ("", "", "")
        if row.bytes_per_s:
            rates = (f"{row.bytes_per_s / 1e9:.0f}", f"{row.flops_per_s / 1e12:.2f}", f"{row.of_roofline:.0%}")
        table.add_row(
            row.case, row.mode, row.function, f"{time.median * 1e3:.3f}", spread, f"{row.speedup:.2f}x", *rates
        )  # fmt: skip
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    console.print(table)
