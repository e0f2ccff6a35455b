"""Steps, guidance, shared noise of the interpolation network: `python -m tests.benchmarks.interpolation_sweep CLIPS`.

CLIPS are rendered clips that no figure elsewhere is measured on: the last of a folder. Their first and last frames are
given, and the frames between compared with the truth. Rows go to tests/benchmarks/results/interpolation_sweep.csv.
"""

import argparse
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from t2v.data.manifest import read_manifest
from t2v.data.video_io import read_frames
from t2v.evaluation.frame_metrics import flow_error, psnr, sharpness
from t2v.pipelines.interpolation.baselines import Crossfade
from t2v.pipelines.interpolation.diffusion import FillSettings, load_interpolation
from t2v.pipelines.interpolation.filling import Fill
from tests.benchmarks.registry import RESULTS, save_rows

FIELDS = ("steps", "frame_guidance", "shared_noise", "psnr", "flow_error", "sharpness", "seconds", "clips")
NUM_FRAMES, FPS = 9, 8.0


def main() -> None:
    """Measure every combination, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--num", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 12])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.2, 1.5])
    parser.add_argument("--shared-noise", type=float, nargs="+", default=[0.8, 0.95])
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    chosen = [row for row in read_manifest(arguments.clips) if row.is_usable][-arguments.num :]
    times = (np.arange(NUM_FRAMES) / FPS).tolist()
    clips = [read_frames(arguments.clips / row.path, times=times) for row in chosen]
    rows = [measure((0, 0.0, 0.0), Crossfade(), clips)]
    for steps, scale, shared in product(arguments.steps, arguments.guidance, arguments.shared_noise):
        settings = FillSettings(num_inference_steps=steps, frame_guidance=scale)
        fill = load_interpolation(arguments.model, settings=settings)
        fill.noise_prior = replace(fill.noise_prior, shared_noise=shared)
        rows.append(measure((steps, scale, shared), fill, clips))
        print(rows[-1])
    save_rows(rows, RESULTS / "interpolation_sweep.csv", replace=True)


def measure(setting: tuple[int, float, float], fill: Fill, clips: list[np.ndarray]) -> dict[str, float]:
    """The row of a way to fill in the frames between."""
    found, started = [], time.process_time()
    times = (np.arange(NUM_FRAMES) / FPS).tolist()
    for clip in clips:
        made = np.concatenate([clip[:1], fill(clip[[0, -1]], (times[0], times[-1]), times[1:-1]), clip[-1:]])
        found.append((psnr(made[1:-1], clip[1:-1]), flow_error(made, clip), sharpness(made) / sharpness(clip)))
    seconds = (time.process_time() - started) / len(clips)
    figures = [round(float(value), 3) for value in (*np.mean(found, axis=0), seconds)]
    return dict(zip(FIELDS, (*setting, *figures, len(clips)), strict=True))


if __name__ == "__main__":
    main()
