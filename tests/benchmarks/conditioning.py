"""What the text branch should see while temporal layers learn: temporal weights compared under guidance scales.

    t2v-data world clips -o world/clips --num 1500 --seed 1
    t2v-data world clips -o world/captioned --num 1500 --seed 1 --captions
    t2v train temporal ... --data world/clips output_dir=runs/null
    t2v train temporal ... --data world/captioned data.conditioning=caption output_dir=runs/caption
    t2v-data world clips -o held-out/clips --num 96 --seed 7 --held-out --labels
    python -m tests.benchmarks.conditioning --data held-out/clips null=runs/null/motion caption=runs/caption/motion

Every setting makes videos of the same held-out captions with the same seeds. The recogniser says which actor, scene and
verb it sees (it flatters: look at the videos too); `frechet_latents` is that of `sampler_sweep`. Rows go to
results/conditioning.csv.
"""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import print
from rich.progress import track

import t2v
from t2v.evaluation.frechet import frechet_distance
from t2v.evaluation.labelled_clips import LabelledClip, balanced, labelled_clips
from t2v.evaluation.recogniser import Recogniser, load_recogniser
from t2v.pipelines.text_to_video import TextToVideoPipeline
from tests.benchmarks.registry import RESULTS, device_name, save_rows
from tests.benchmarks.sampler_sweep import Setting, features, rendered, steadiness

GUIDANCE_SCALES = (1.0, 3.0, 5.0, 7.0, 9.0)
RECOGNISER = Path(t2v.__file__).parent / "zoo" / "recogniser"


def measure(
    pipe: TextToVideoPipeline, setting: Setting, clips: Sequence[LabelledClip], recogniser: Recogniser
) -> dict[str, Any]:
    """Features of a video of each caption, shares of right judgements, and the means of the other figures."""
    options = {"num_frames": recogniser.config.num_frames, "fps": recogniser.config.fps, **vars(setting)}
    videos = [pipe(clip.caption, seed=seed, **options).frames for seed, clip in enumerate(clips)]
    judged = [recogniser.judge(frames) for frames in videos]
    pairs = list(zip(judged, clips, strict=True))
    return {
        "features": np.concatenate([features(pipe, frames) for frames in videos]),
        **{
            name: np.mean([getattr(seen, name) == getattr(clip, name) for seen, clip in pairs])
            for name in ("actor", "scene", "verb")
        },
        **steadiness(videos),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motions", nargs="+", metavar="NAME=MOTION", help="temporal weights to compare")
    parser.add_argument("--data", type=Path, required=True, help="held-out clips with labels")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--num-videos", type=int, default=16)
    parser.add_argument("--num-inference-steps", type=int, default=10)
    arguments = parser.parse_args()
    recogniser = load_recogniser(RECOGNISER)
    clips = balanced(labelled_clips(arguments.data), arguments.num_videos)
    rows: list[dict[str, Any]] = []
    for name, motion in (argument.split("=", 1) for argument in arguments.motions):
        pipe = t2v.load(arguments.model, motion=motion)
        truth = rendered(pipe, clips)["features"]
        for guidance in track(GUIDANCE_SCALES, name):
            setting = Setting("ddim", arguments.num_inference_steps, guidance)
            figures = measure(pipe, setting, clips, recogniser)
            distance = frechet_distance(figures.pop("features"), truth)
            rows.append(
                {
                    "date": datetime.date.today().isoformat(),
                    "conditioning": name,
                    **vars(setting),
                    "frechet_latents": round(distance, 3),
                    **{key: round(float(value), 3) for key, value in figures.items()},
                    "num_videos": len(clips),
                    "device": device_name(),
                    "torch": str(torch.__version__),
                }
            )
            print(rows[-1])
    save_rows(rows, RESULTS / "conditioning.csv", replace=True)


if __name__ == "__main__":
    main()
