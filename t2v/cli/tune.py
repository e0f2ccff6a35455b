"""`t2v tune`: better tiles of the Triton kernels for this machine's GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import options

if TYPE_CHECKING:
    import torch

    from t2v.evaluation.tuning import Outcome

app = typer.Typer(add_completion=False)

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File of tiles; T2V_TILES names it to later runs. [default: t2v/tiles.json in ~/.cache]"
    ),
]
Sizes = Annotated[str, typer.Option(help="Networks to tune for: sd15 or mini.")]
NumFrames = Annotated[int, typer.Option(min=2, max=128, help="Frames of the videos.")]


@app.command()
def tune(
    output: Output = None,
    sizes: Sizes = "sd15",
    num_frames: NumFrames = 16,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure tiles of the Triton kernels on this GPU and keep those that are faster than the table's; takes minutes.

    The kernels, which T2V_BACKEND=triton turns on, read the file by themselves. Its tiles of other GPUs and sizes stay.
    """
    from t2v.cli.progress import Reporter
    from t2v.errors import InputError
    from t2v.evaluation import op_speed, tuning
    from t2v.models.base import save_json
    from t2v.ops.triton.tuned import default_path
    from t2v.pipelines.device import resolve_device

    levels = {"sd15": op_speed.SD15_LEVELS, "mini": op_speed.MINI_LEVELS}
    if sizes not in levels:
        raise InputError(f"--sizes is {sizes!r}: use {' or '.join(levels)}")
    place = resolve_device(device or "auto")
    gpu, path, reporter = _gpu_name(place), output or default_path(), Reporter(quiet)
    tiles = _read(path)
    for task in tuning.tasks(levels[sizes], num_frames, place):
        try:
            with reporter.stage(task.key):
                outcome = tuning.search(task, tuning.measure_on(place, task))
        except tuning.DefaultFailed as error:
            reporter.note(f"{task.key}: the table's tile does not run here ({error})")
            continue
        tiles[gpu] = tuning.updated(tiles.get(gpu, {}), outcome)
        save_json(path, tiles)
        reporter.note(_summary(outcome))
    if path.exists():
        print(path)


def _gpu_name(device: "torch.device") -> str:
    import torch

    from t2v.errors import InputError
    from t2v.ops.backend import triton_runs_on

    if device.type != "cuda" or not triton_runs_on(device):
        raise InputError(
            "tuning measures the Triton kernels: it needs the package triton and a CUDA GPU of compute capability 8.0 "
            f"or more, got {device.type}"
        )
    return torch.cuda.get_device_name(device)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The file as it is, checked; or nothing, where there is none yet and one can be made."""
    import json

    from t2v.data.video_io import check_parent
    from t2v.ops.triton.tuned import default_path, read_tiles

    if path == default_path():
        path.parent.mkdir(parents=True, exist_ok=True)
    check_parent(path)
    if not path.exists():
        return {}
    read_tiles(path)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _summary(outcome: "Outcome") -> str:
    gain = f"{outcome.default_seconds / outcome.seconds:.2f}x" if outcome.better else "the table's is best"
    return f"{outcome.key}: {gain}, {outcome.seconds * 1e6:.0f} us, {outcome.trials} tiles tried"
