"""How many steps of which sampler `mini` needs: `python -m tests.benchmarks.sampler_sweep`.

Each video is compared with the one that 100 steps of DDIM make of the same noise: root mean square difference of pixels
(0 to 255). Rows go to tests/benchmarks/results/sampler_sweep.csv.
"""

import csv
import datetime

import numpy as np
import torch

import t2v
from t2v.pipelines.text_to_video import TextToVideoPipeline
from tests.benchmarks.registry import RESULTS, device_name

PROMPTS = ("a robot dancing in Times Square", "a frog jumping in a meadow")
REFERENCE = ("ddim", 100)
CANDIDATES = [(sampler, steps) for sampler in ("ddim", "dpmpp_2m") for steps in (10, 20, 25, 40)]


def sweep(pipe: TextToVideoPipeline) -> list[dict[str, str | float | int]]:
    """One row for each candidate: its distance from the reference and its denoising seconds, means over the prompts."""

    def make(prompt: str, sampler: str, steps: int) -> tuple[np.ndarray, float]:
        video = pipe(prompt, seed=0, sampler=sampler, num_inference_steps=steps)
        assert isinstance(video, t2v.Video)
        return video.frames.astype(np.float64), video.metadata["seconds"]["denoise"]

    references = {prompt: make(prompt, *REFERENCE)[0] for prompt in PROMPTS}
    rows: list[dict[str, str | float | int]] = []
    for sampler, steps in CANDIDATES:
        made = {prompt: make(prompt, sampler, steps) for prompt in PROMPTS}
        distances = [np.sqrt(np.mean((made[prompt][0] - references[prompt]) ** 2)) for prompt in PROMPTS]
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "sampler": sampler,
                "num_inference_steps": steps,
                "rms_to_reference": round(float(np.mean(distances)), 2),
                "denoise_s": round(float(np.mean([seconds for _, seconds in made.values()])), 2),
                "threads": torch.get_num_threads(),
                "device": device_name(),
                "torch": str(torch.__version__),
            }
        )
        print(rows[-1])
    return rows


if __name__ == "__main__":
    rows = sweep(t2v.load("mini"))
    with (RESULTS / "sampler_sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
