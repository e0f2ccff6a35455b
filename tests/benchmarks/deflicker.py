"""How steady the videos of the embedded model get by `--deflicker`, and what rendered clips lose by it.

    t2v-data world clips -o seen/clips --num 96 --seed 21 --labels --captions
    python -m tests.benchmarks.deflicker --data seen/clips

Videos of captions of seen pairs, so that nothing is chosen by the held-out ones: the same latents, averaged over time
by different strengths. Beside them the rendered clips of these captions through the autoencoder and the same average,
against the clips themselves. The recogniser says which actor and verb it sees (it flatters: look at the videos too).
Rows go to results/deflicker.csv.
"""

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich import print
from rich.progress import track
from torch import Tensor

import t2v
from t2v.data.transforms import to_model_range
from t2v.evaluation.frame_metrics import psnr
from t2v.evaluation.labelled_clips import balanced, labelled_clips
from t2v.evaluation.motion import background_difference, frame_difference
from t2v.evaluation.recogniser import load_recogniser
from t2v.pipelines.text_to_video import TextToVideoPipeline
from tests.benchmarks.conditioning import RECOGNISER
from tests.benchmarks.registry import RESULTS, device_name, save_rows

STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
JUDGED = ("actor", "verb")

Videos = Sequence[NDArray[np.uint8]]


@torch.inference_mode()
def generated(pipe: TextToVideoPipeline, prompt: str, seed: int) -> Tensor:
    """Latents (1, C, F, h, w) of a video."""
    return pipe._denoise(pipe._encode(prompt, pipe.defaults), seed, pipe.defaults, None)


@torch.inference_mode()
def encoded(pipe: TextToVideoPipeline, frames: NDArray[np.uint8]) -> Tensor:
    """Latents (1, C, F, h, w) of frames (F, H, W, 3)."""
    pictures = to_model_range(torch.from_numpy(frames)).to(pipe.device, pipe.dtype)
    latents = pipe.autoencoder.encode(pictures).mean.float() * pipe.autoencoder.config.scaling_factor
    return latents.transpose(0, 1)[None]


@torch.inference_mode()
def decoded(pipe: TextToVideoPipeline, latents: Sequence[Tensor], strength: float) -> Videos:
    """Frames (F, H, W, 3) of each latents (1, C, F, h, w)."""
    settings = replace(pipe.defaults, deflicker=strength)
    return [pipe._decode(each, settings) for each in latents]


def steadiness(prefix: str, videos: Videos) -> dict[str, float]:
    """Means of the differences of neighbouring frames, 0 to 255: where they show the background, and everywhere."""
    backgrounds = [background_difference(frames) for frames in videos]
    return {
        f"{prefix}_background": float(np.mean([value for value in backgrounds if value is not None])),
        f"{prefix}_difference": float(np.mean([frame_difference(frames) for frames in videos])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="clips with labels and captions")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--num-videos", type=int, default=16)
    arguments = parser.parse_args()
    recogniser, pipe = load_recogniser(RECOGNISER), t2v.load(arguments.model)
    clips = balanced(labelled_clips(arguments.data), arguments.num_videos)
    rendered = [clip.read(pipe.defaults.num_frames, pipe.defaults.fps)[0] for clip in clips]
    real = [encoded(pipe, frames) for frames in rendered]
    made = [generated(pipe, clip.caption, seed) for seed, clip in enumerate(track(clips, "generating"))]
    rows, truth = [], steadiness("rendered", rendered)
    for strength in STRENGTHS:
        videos, copies = decoded(pipe, made, strength), decoded(pipe, real, strength)
        judged = list(zip((recogniser.judge(frames) for frames in videos), clips, strict=True))
        figures = {
            **{name: np.mean([getattr(seen, name) == getattr(clip, name) for seen, clip in judged]) for name in JUDGED},
            **steadiness("made", videos),
            **steadiness("copied", copies),
            "copied_psnr": np.mean([psnr(*pair) for pair in zip(copies, rendered, strict=True)]),
            **truth,
        }
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "deflicker": strength,
                **{name: round(float(value), 3) for name, value in figures.items()},
                "num_videos": len(clips),
                "device": device_name(),
                "torch": str(torch.__version__),
            }
        )
        print(rows[-1])
    save_rows(rows, RESULTS / "deflicker.csv", replace=True)


if __name__ == "__main__":
    main()
