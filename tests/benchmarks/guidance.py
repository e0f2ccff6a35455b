"""What the text changes, told by the whole network or by the image model alone, on the embedded model.

    t2v-data world clips -o seen/clips --num 96 --seed 21 --labels --captions
    python -m tests.benchmarks.guidance --data seen/clips

Every setting makes videos of the same captions with the same seeds; these pairs of actor and scene were seen in
training, so that nothing is chosen by the held-out ones. The recogniser says which actor, scene and verb it sees (it
flatters: look at the videos too). The first row is the rendered clips. Rows go to results/guidance.csv.
"""

import argparse
import datetime
from pathlib import Path
from typing import Any

import torch
from rich import print
from rich.progress import track

import t2v
from t2v.evaluation.frechet import frechet_distance
from t2v.evaluation.labelled_clips import balanced, labelled_clips
from t2v.evaluation.recogniser import load_recogniser
from tests.benchmarks.conditioning import RECOGNISER, measure
from tests.benchmarks.registry import RESULTS, device_name, save_rows
from tests.benchmarks.sampler_sweep import Setting, rendered

SETTINGS = [
    Setting("ddim", 12, 4.0, "video"),
    *(Setting("ddim", 12, scale, "image") for scale in (2.0, 3.0, 4.0)),
    *(Setting("ddim", 12, 3.0, "image", motion) for motion in (1.2, 1.3)),
]


def read_arguments(description: str | None) -> argparse.Namespace:
    """The clips, the model and the number of videos, from the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="clips with labels and captions")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--num-videos", type=int, default=16)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments(__doc__)
    recogniser = load_recogniser(RECOGNISER)
    clips = balanced(labelled_clips(arguments.data), arguments.num_videos)
    pipe = t2v.load(arguments.model)
    truth = rendered(pipe, clips)
    rows = [_row(None, truth, truth, len(clips))]
    for setting in track(SETTINGS, "settings"):
        rows.append(_row(setting, measure(pipe, setting, clips, recogniser), truth, len(clips)))
        print(rows[-1])
    save_rows(rows, RESULTS / "guidance.csv", replace=True)


def _row(setting: Setting | None, figures: dict[str, Any], truth: dict[str, Any], num_videos: int) -> dict[str, Any]:
    names = ("actor", "scene", "verb", "frame_difference", "background_difference")
    return {
        "date": datetime.date.today().isoformat(),
        "guidance": "rendered" if setting is None else setting.guidance,
        "guidance_scale": None if setting is None else setting.guidance_scale,
        "motion_guidance": None if setting is None else setting.motion_guidance,
        "frechet_latents": round(frechet_distance(figures["features"], truth["features"]), 3),
        **{name: round(float(figures[name]), 3) if name in figures else None for name in names},
        "num_videos": num_videos,
        "device": device_name(),
        "torch": str(torch.__version__),
    }


if __name__ == "__main__":
    main()
