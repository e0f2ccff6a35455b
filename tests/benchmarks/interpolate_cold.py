"""Two pictures to a clip of 16 frames in a fresh process: `python -m tests.benchmarks.interpolate_cold`.

Options after `--` go to `t2v interpolate`. Rows go to tests/benchmarks/results/interpolate_cold.csv. Where the machine
has other work, the processor time is what tells.
"""

import argparse
import dataclasses
import datetime
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.benchmarks.registry import RESULTS, device_name, save_rows


@dataclass(frozen=True)
class Row:
    """One measured command; seconds are medians over the rounds."""

    date: str
    options: str
    wall_s: float
    wall_max_s: float
    processor_s: float
    peak_memory_mb: int
    load: float  # runnable processes of the machine, mean of the last minute, at the end
    rounds: int
    cores: int
    device: str
    torch: str


def pictures(folder: Path, size: int = 128) -> list[Path]:
    """A disc on a gradient, at the left and at the right."""
    y, x = np.mgrid[:size, :size]
    files = []
    for index, centre in enumerate((0.3, 0.7)):
        picture = np.stack([x * 255 // size, y * 255 // size, np.full_like(x, 120)], -1).astype(np.uint8)
        picture[np.hypot(x - centre * size, y - size / 2) < size / 6] = (230, 60, 40)
        files.append(folder / f"{index}.png")
        Image.fromarray(picture).save(files[-1])
    return files


def interpolate(options: list[str]) -> tuple[float, float]:
    """Run the command once: its wall and its processor time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "t2v", "interpolate", *map(str, pictures(folder))]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "-o", str(folder / "clip.mp4"), "--quiet", *options], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, print and append the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("options", nargs="*", help="for t2v interpolate")
    arguments = parser.parse_args()
    walls, processors = zip(*(interpolate(arguments.options) for _ in range(arguments.rounds)), strict=True)
    row = Row(
        date=datetime.date.today().isoformat(),
        options=" ".join(arguments.options),
        wall_s=round(statistics.median(walls), 2),
        wall_max_s=round(max(walls), 2),
        processor_s=round(statistics.median(processors), 2),
        peak_memory_mb=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        load=round(os.getloadavg()[0], 1),
        rounds=arguments.rounds,
        cores=len(os.sched_getaffinity(0)),
        device=device_name(),
        torch=torch.__version__,
    )
    for name, value in dataclasses.asdict(row).items():
        print(f"{name:16} {value}")
    save_rows([dataclasses.asdict(row)], RESULTS / "interpolate_cold.csv")


if __name__ == "__main__":
    main()
