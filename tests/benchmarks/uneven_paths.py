"""What two ends tell of an uneven path between them: `python -m tests.benchmarks.uneven_paths FOLDER... --clips C`.

No pictures are made: a small network learns, from the labels of the rendered clips in FOLDERs (24 frames a second),
where an actor is between two moments a second apart. It is told the true place, tilt and width at both ends, a second
one the verb, too. Measured as the interpolation network is, on the first second of clips C whose actor does not move
evenly. What these miss is an estimate of what two ends do not tell, no bound. Rows, pixels of 64 px height with 95%
intervals, go to tests/benchmarks/results/uneven_paths.csv.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from t2v.evaluation.frame_metrics import bootstrap_mean
from t2v.evaluation.interpolation import CURVED, off_line
from t2v.evaluation.labelled_clips import LabelledClip, balanced, labelled_clips
from tests.benchmarks.registry import RESULTS, save_rows

NUM_FRAMES, STRIDE = 9, 3  # of a window: 8 of the 24 frames a second
STEPS, BATCH_SIZE, RATE, WIDTH = 2500, 256, 1e-3, 128
Told = tuple[NDArray[np.float64], NDArray[np.float64]]


def main() -> None:
    """Measure a straight line, what is learned from the ends, and from ends and verb; print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="clips to learn from")
    parser.add_argument("--clips", type=Path, required=True, help="clips to measure on")
    parser.add_argument("--num", type=int, default=64)
    arguments = parser.parse_args()
    learned = [clip for folder in arguments.folders for clip in labelled_clips(folder)]
    measured = balanced(labelled_clips(arguments.clips), arguments.num)
    verbs = sorted({clip.verb for clip in [*learned, *measured]})
    train = _stack([window for clip in learned for window in windows(clip, verbs)])
    ends, truth = _stack([windows(clip, verbs)[0] for clip in measured])
    curved = np.hypot(*truth.transpose(2, 0, 1)).max(1) > CURVED
    ends, truth = ends[curved], truth[curved]
    rows = [_row("straight line", np.zeros_like(truth), truth)]
    for told, inputs in (("ends", ends.shape[1] - len(verbs)), ("ends and verb", ends.shape[1])):
        rows.append(_row(told, guess(learn(train[0][:, :inputs], train[1]), ends[:, :inputs]), truth))
    for row in rows:
        print(row)
    save_rows(rows, RESULTS / "uneven_paths.csv", replace=True)


def windows(clip: LabelledClip, verbs: list[str]) -> list[Told]:
    """All windows of a clip: what is told of it, and how far (F, 2) the actor is off the straight line.

    Pixels of 64 px height.
    """
    truth = {name: np.array(values) for name, values in json.loads(clip.truth).items()}
    place = np.stack([truth["x"], truth["y"]], 1) * 64 / clip.height
    angle = np.radians(truth["angle"])
    pose = np.stack([np.sin(angle), np.cos(angle), truth["turn"]], 1)
    verb = np.array([clip.verb == name for name in verbs], float)
    found = []
    for start in range(len(place) - STRIDE * (NUM_FRAMES - 1)):
        path = place[start::STRIDE][:NUM_FRAMES]
        last = start + STRIDE * (NUM_FRAMES - 1)
        told = np.concatenate([path[0] / 32 - 1, path[-1] / 32 - 1, pose[start], pose[last], verb])
        found.append((told, off_line(path)))
    return found


def learn(told: NDArray[np.float64], off: NDArray[np.float64]) -> nn.Sequential:
    """A network that guesses how far the inner frames are off the line: (N, inputs) -> (N, 2 (F - 2))."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    inputs, outputs = torch.from_numpy(told).float(), torch.from_numpy(off[:, 1:-1]).float()
    first, second = nn.Linear(inputs.shape[1], WIDTH), nn.Linear(WIDTH, WIDTH)
    network = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), nn.Linear(WIDTH, outputs[0].numel()))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(inputs), (BATCH_SIZE,), generator=draws)
        distance = (network(inputs[rows]).view_as(outputs[rows]) - outputs[rows]).square().sum(-1)
        (distance + 0.01).sqrt().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        falling.step()
    return network


@torch.no_grad()
def guess(network: nn.Sequential, told: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the frames of (N, inputs) are off the line: (N, F, 2)."""
    inner = network(torch.from_numpy(told).float()).double().unflatten(1, (-1, 2)).numpy()
    return np.pad(inner, ((0, 0), (1, 1), (0, 0)))


def _stack(found: list[Told]) -> Told:
    told, off = zip(*found, strict=True)
    return np.stack(told), np.stack(off)


def _row(told: str, guessed: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, object]:
    """Mean over clips of the median over inner frames, as `actor_error` of the interpolation network is."""
    distance = np.hypot(*(guessed - truth)[:, 1:-1].transpose(2, 0, 1))
    found = bootstrap_mean(np.median(distance, 1))
    return {"told": told} | {name: round(value, 2) for name, value in found.items() if value is not None}


if __name__ == "__main__":
    main()
