"""What sampler, number of steps and guidance give for their time, on the embedded model.

    t2v-data world clips -o held-out/clips --num 96 --seed 7 --held-out --labels
    python -m tests.benchmarks.sampler_sweep --data held-out/clips

Every setting makes a video of each of the same captions with the same seeds. Quality is the Frechet distance between
the features of their frames and of the frames of the rendered clips with these captions: autoencoder latents, averaged
to 4 x 4 places. It is a distance on our own small features: good for ranking settings of one model, and nothing else.
The first row is what the other rendered clips, with other captions, have. Rows go to results/sampler_sweep.csv.
"""

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich import print
from rich.progress import track
from torch import Tensor

import t2v
from t2v.data.transforms import to_model_range
from t2v.evaluation.frechet import frechet_distance
from t2v.evaluation.labelled_clips import LabelledClip, balanced, labelled_clips
from t2v.evaluation.motion import background_difference, frame_difference
from t2v.pipelines.text_to_video import TextToVideoPipeline
from tests.benchmarks.registry import RESULTS, device_name, save_rows


@dataclass(frozen=True)
class Setting:
    """One way to sample."""

    sampler: str
    num_inference_steps: int
    guidance_scale: float
    guidance: str = "video"  # which network says what the text changes
    motion_guidance: float = 1.0
    deflicker: float = 0.0


SETTINGS = [
    *(Setting("ddim", steps, 4.0) for steps in (10, 20, 25, 40)),
    *(Setting("dpmpp_2m", steps, 4.0) for steps in (10, 20, 25)),
    *(Setting("ddim", 25, guidance) for guidance in (1.5, 2.0, 3.0, 6.0)),
]


@torch.inference_mode()
def encoded(pipe: TextToVideoPipeline, frames: NDArray[np.uint8]) -> Tensor:
    """Latents (F, C, h, w) of frames (F, H, W, 3), as the U-Net sees them."""
    images = to_model_range(torch.from_numpy(frames)).to(pipe.device, pipe.dtype)
    return pipe.autoencoder.encode(images).mean.float() * pipe.autoencoder.config.scaling_factor


def features(pipe: TextToVideoPipeline, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Latents of frames (F, H, W, 3), averaged to 4 x 4 places: (F, 16 C)."""
    return F.adaptive_avg_pool2d(encoded(pipe, frames), 4).flatten(1).double().cpu().numpy()


def steadiness(videos: Sequence[NDArray[np.uint8]]) -> dict[str, np.floating]:
    """Means of the differences of neighbouring frames, 0 to 255: everywhere, and where they show the background."""
    backgrounds = [background_difference(frames) for frames in videos]
    return {
        "frame_difference": np.mean([frame_difference(frames) for frames in videos]),
        "background_difference": np.mean([value for value in backgrounds if value is not None]),
    }


def measure(pipe: TextToVideoPipeline, setting: Setting, captions: Sequence[str]) -> dict[str, Any]:
    """Features of a video of each caption, and the means of the other figures."""
    videos = [pipe(caption, seed=seed, **vars(setting)) for seed, caption in enumerate(captions)]
    return {
        "features": np.concatenate([features(pipe, video.frames) for video in videos]),
        **steadiness([video.frames for video in videos]),
        "denoise_s": np.mean([video.metadata["seconds"]["denoise"] for video in videos]),
    }


def rendered(pipe: TextToVideoPipeline, clips: Sequence[LabelledClip]) -> dict[str, Any]:
    """The same of rendered clips."""
    frames = [clip.read(pipe.defaults.num_frames, pipe.defaults.fps)[0] for clip in clips]
    return {
        "features": np.concatenate([features(pipe, each) for each in frames]),
        "frame_difference": np.mean([frame_difference(each) for each in frames]),
        "background_difference": np.mean([background_difference(each) or 0.0 for each in frames]),
        "denoise_s": 0.0,
    }


def row(
    setting: Setting | None, figures: dict[str, Any], truth: NDArray[np.float64], num_videos: int
) -> dict[str, Any]:
    """A line of the CSV file; no setting is the rendered clips."""
    return {
        "date": datetime.date.today().isoformat(),
        "sampler": "rendered" if setting is None else setting.sampler,
        "num_inference_steps": "" if setting is None else setting.num_inference_steps,
        "guidance_scale": "" if setting is None else setting.guidance_scale,
        "frechet_latents": round(frechet_distance(figures["features"], truth), 3),
        **{name: round(float(value), 2) for name, value in figures.items() if name != "features"},
        "num_videos": num_videos,
        "threads": torch.get_num_threads(),
        "device": device_name(),
        "torch": str(torch.__version__),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="held-out clips with labels")
    parser.add_argument("--num-videos", type=int, default=16)
    arguments = parser.parse_args()
    pipe = t2v.load("mini")
    clips = labelled_clips(arguments.data)
    chosen = balanced(clips, arguments.num_videos)
    others = [clip for clip in clips if clip not in chosen][: len(chosen)]
    truth = rendered(pipe, chosen)["features"]
    rows = [row(None, rendered(pipe, others), truth, len(others))]
    for setting in track(SETTINGS, "settings"):
        figures = measure(pipe, setting, [clip.caption for clip in chosen])
        rows.append(row(setting, figures, truth, len(chosen)))
        print(rows[-1])
    save_rows(rows, RESULTS / "sampler_sweep.csv", replace=True)


if __name__ == "__main__":
    main()
