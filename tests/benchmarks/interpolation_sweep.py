"""Steps and frame guidance of the interpolation network: `python -m tests.benchmarks.interpolation_sweep CLIPS`.

CLIPS are rendered clips that no figure elsewhere is measured on: the last of a folder. Their first and last frames are
given, and the frames between compared with the truth. Rows go to tests/benchmarks/results/interpolation_sweep.csv.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from t2v.data.manifest import read_manifest
from t2v.data.video_io import read_frames
from t2v.evaluation.frame_metrics import flow_error, psnr, sharpness
from t2v.pipelines.interpolation.baselines import Crossfade
from t2v.pipelines.interpolation.diffusion import FillSettings, load_interpolation
from tests.benchmarks.registry import RESULTS

FIELDS = ("steps", "frame_guidance", "psnr", "flow_error", "sharpness", "seconds", "clips")
NUM_FRAMES, FPS = 9, 8.0


def main() -> None:
    """Measure every combination, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--num", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[6, 12, 25])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.2, 1.5])
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    rows = [row for row in read_manifest(arguments.clips) if row.is_usable][-arguments.num :]
    times = (np.arange(NUM_FRAMES) / FPS).tolist()
    clips = [read_frames(arguments.clips / row.path, times=times) for row in rows]
    fills = {(0, 0.0): Crossfade()} | {
        (steps, scale): load_interpolation(
            arguments.model, settings=FillSettings(num_inference_steps=steps, frame_guidance=scale)
        )
        for steps in arguments.steps
        for scale in arguments.guidance
    }
    with (RESULTS / "interpolation_sweep.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for (steps, scale), fill in fills.items():
            found, started = [], time.process_time()
            for clip in clips:
                made = np.concatenate([clip[:1], fill(clip[[0, -1]], (times[0], times[-1]), times[1:-1]), clip[-1:]])
                found.append((psnr(made[1:-1], clip[1:-1]), flow_error(made, clip), sharpness(made) / sharpness(clip)))
            seconds = (time.process_time() - started) / len(clips)
            row = (steps, scale, *(round(float(value), 3) for value in (*np.mean(found, axis=0), seconds)), len(clips))
            writer.writerow(row)
            file.flush()
            print(*row)


if __name__ == "__main__":
    main()
