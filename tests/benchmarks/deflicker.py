"""How steady the videos of the embedded model get by `--deflicker`, and what rendered clips lose by it.

    t2v-data world clips -o seen/clips --num 96 --seed 21 --labels --captions
    python -m tests.benchmarks.deflicker --data seen/clips

Videos of captions of seen pairs, so that nothing is chosen by the held-out ones: the same latents, averaged over time
by different strengths. Beside them the rendered clips of these captions through the autoencoder and the same average,
against the clips themselves. The recogniser says which actor and verb it sees (it flatters: look at the videos too).
Rows go to results/deflicker.csv.
"""

import datetime
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich import print
from rich.progress import track
from torch import Tensor

import t2v
from t2v.evaluation.frame_metrics import psnr
from t2v.evaluation.labelled_clips import balanced, labelled_clips
from t2v.evaluation.recogniser import load_recogniser
from t2v.pipelines.text_to_video import TextToVideoPipeline
from tests.benchmarks.conditioning import RECOGNISER
from tests.benchmarks.guidance import read_arguments
from tests.benchmarks.registry import RESULTS, device_name, save_rows
from tests.benchmarks.sampler_sweep import encoded, steadiness

STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
JUDGED = ("actor", "verb")

Videos = Sequence[NDArray[np.uint8]]


@torch.inference_mode()
def generated(pipe: TextToVideoPipeline, prompt: str, seed: int) -> Tensor:
    """Latents (1, C, F, h, w) of a video."""
    return pipe._denoise(pipe._encode(prompt, pipe.defaults), seed, pipe.defaults, None)


@torch.inference_mode()
def decoded(pipe: TextToVideoPipeline, latents: Sequence[Tensor], strength: float) -> Videos:
    """Frames (F, H, W, 3) of each latents (1, C, F, h, w)."""
    settings = replace(pipe.defaults, deflicker=strength)
    return [pipe._decode(each, settings) for each in latents]


def main() -> None:
    arguments = read_arguments(__doc__)
    recogniser, pipe = load_recogniser(RECOGNISER), t2v.load(arguments.model)
    clips = balanced(labelled_clips(arguments.data), arguments.num_videos)
    rendered = [clip.read(pipe.defaults.num_frames, pipe.defaults.fps)[0] for clip in clips]
    real = [encoded(pipe, frames).transpose(0, 1)[None] for frames in rendered]
    made = [generated(pipe, clip.caption, seed) for seed, clip in enumerate(track(clips, "generating"))]
    rows = []
    for strength in STRENGTHS:
        videos, copies = decoded(pipe, made, strength), decoded(pipe, real, strength)
        judged = list(zip((recogniser.judge(frames) for frames in videos), clips, strict=True))
        figures = {
            **{name: np.mean([getattr(seen, name) == getattr(clip, name) for seen, clip in judged]) for name in JUDGED},
            **{
                f"{kind}_{name}": value
                for kind, clips_of_kind in (("made", videos), ("copied", copies), ("rendered", rendered))
                for name, value in steadiness(clips_of_kind).items()
            },
            "copied_psnr": np.mean([psnr(*pair) for pair in zip(copies, rendered, strict=True)]),
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
