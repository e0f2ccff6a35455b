"""Memory while a long video goes by: `python -m tests.benchmarks.interpolate_memory`.

`t2v interpolate LONG.mp4 --factor 2` in a process of its own, its resident memory noted as frames are written. Options
after `--` go to the command. Rows go to tests/benchmarks/results/interpolate_memory.csv.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from t2v.data.video_io import write_video
from tests.benchmarks.registry import RESULTS

SIZES = {"crossfade": (288, 352), "diffusion": (32, 32)}


def moving(num: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Noise that moves by a pixel a frame."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return (np.roll(frame, index, axis=1) for index in range(num))


def curve(source: Path, output: Path, options: list[str]) -> list[tuple[float, int]]:
    """(seconds, resident MB) of the command, twenty times a second."""
    command = [sys.executable, "-m", "t2v", "interpolate", str(source), "--factor", "2", "-o", str(output), "--quiet"]
    started, found = time.perf_counter(), []
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/statm")
        while process.poll() is None:
            resident = int(status.read_text().split()[1])  # pages; none of a process that has just ended
            if resident:
                found.append((time.perf_counter() - started, resident * 4096 // 2**20))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(process.returncode)
    return found


def main() -> None:
    """Measure, print and write twenty points of the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--method", choices=SIZES, default="crossfade")
    parser.add_argument("options", nargs="*", help="for t2v interpolate")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "long.mp4"
        write_video(source, moving(arguments.frames, *SIZES[arguments.method]), 24)
        found = curve(source, Path(name) / "out.mp4", ["--method", arguments.method, *arguments.options])
    points = [found[place] for place in np.linspace(0, len(found) - 1, 20).round().astype(int)]
    path = RESULTS / "interpolate_memory.csv"
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(("method", "frames", "share_of_time", "resident_mb"))
        for seconds, megabytes in points:
            row = arguments.method, arguments.frames, round(seconds / found[-1][0], 2), megabytes
            writer.writerow(row)
            print(*row)


if __name__ == "__main__":
    main()
