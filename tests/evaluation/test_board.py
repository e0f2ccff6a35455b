import shutil
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from t2v.errors import InputError
from t2v.evaluation.board import (
    HELD_OUT,
    INDEPENDENT,
    RENDERED,
    RENDERED_SEEN,
    ROWS,
    SEEN,
    SHARED,
    BoardData,
    BoardRequest,
    Judge,
    Judged,
    judge_all,
    of_row,
)
from t2v.evaluation.board_report import SHUFFLED, board_figures, board_sheet, gates
from t2v.evaluation.labelled_clips import labelled_clips
from t2v.evaluation.recogniser import Recogniser
from t2v.evaluation.recogniser_training import config_for

NUM_FRAMES = 4


@pytest.fixture(scope="module")
def board_folder(tmp_path_factory, clips_folder, pictures_folder):
    folder = tmp_path_factory.mktemp("board")
    for name in ("seen", "held-out", "reference"):
        shutil.copytree(clips_folder, folder / name)
    shutil.copytree(pictures_folder, folder / "sprites")
    return folder


@pytest.fixture(scope="module")
def judge(board_folder):
    data = BoardData.read(board_folder, 2)
    torch.manual_seed(0)
    config = replace(config_for(data.reference), num_frames=NUM_FRAMES, size=16, motion_size=16, width=4)
    return Judge(Recogniser(config).eval(), data)


@dataclass
class Pipe:
    """Makes noise, and remembers what it was asked for."""

    asked: list = field(default_factory=list)

    def __call__(self, prompt, *, seed, num_frames, fps, **options):
        self.asked.append((prompt, seed, num_frames))
        frames = np.random.default_rng(seed).integers(0, 256, (num_frames, 64, 64, 3), dtype=np.uint8)
        return SimpleNamespace(frames=frames, fps=fps, metadata={"seconds": {"denoise": 2.0, "decode": 0.5}})


def test_judge_all_makes_every_row_from_the_same_captions_and_seeds(board_folder, judge, monkeypatch):
    monkeypatch.setattr("t2v.evaluation.matching.POSES", ((0.0, 1.0, 1.0), (0.0, -1.0, 1.0)))  # quicker
    pipe, data, steps = Pipe(), BoardData.read(board_folder, 2), []
    request = BoardRequest(pipe, {"guidance_scale": 3.0}, 7, data, judge)
    judged = judge_all(request, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (12, 12) and {row: len(of_row(judged, row)) for row in ROWS} == dict.fromkeys(ROWS, 2)
    assert (
        [video.seed for video in of_row(judged, HELD_OUT)] == [video.seed for video in of_row(judged, SEEN)] == [7, 8]
    )
    assert {video.clip.verb for video in of_row(judged, HELD_OUT)} == {"standing", "running"}
    single = [seed for _, seed, num_frames in pipe.asked if num_frames == 1]
    assert len(set(single)) == 2 * NUM_FRAMES, "independent noise is different in every frame"
    for video in of_row(judged, SHARED):
        assert (video.frames == video.frames[0]).all() and video.flicker == 0
        assert (video.frames[0] == of_row(judged, INDEPENDENT)[video.seed - 7].frames[0]).all()
    assert of_row(judged, INDEPENDENT)[0].seconds == NUM_FRAMES * 2.5
    ceiling = of_row(judged, RENDERED)
    assert [video.path_verb for video in ceiling] == [video.clip.verb for video in ceiling]
    assert ceiling[0].match > 0.3 > of_row(judged, HELD_OUT)[0].match
    assert board_sheet(judged).shape[0] > 4 * 64


def test_board_data_says_what_is_missing(board_folder, tmp_path):
    with pytest.raises(InputError, match=r"has no seen/: make it with `t2v-data world board"):
        BoardData.read(tmp_path, 2)
    with pytest.raises(InputError, match="has 4 clips, 5 videos were asked for"):
        BoardData.read(board_folder, 5)


def make_judged(clips, row, verbs, actors="robot", flicker=1.0, shift=0.0):
    """Videos of clips in which `verbs` and `actors` are seen."""
    names = [actors] * len(clips) if isinstance(actors, str) else actors
    rng = np.random.default_rng(0)
    return [
        Judged(
            row, clip, 0, 1.0, actor, "field", verb, verb, 0.5, flicker,
            rng.normal(shift, 1, 3), np.zeros((4, 8, 8, 3), np.uint8),
        )
        for clip, verb, actor in zip(clips, verbs, names, strict=True)
    ]  # fmt: skip


def figures_of(clips, held_out):
    """A board whose other rows are perfect."""
    right = [clip.verb for clip in clips]
    others = [video for row in ROWS if row != HELD_OUT for video in make_judged(clips, row, right)]
    return board_figures([*held_out, *others], np.random.default_rng(1).normal(0, 1, (50, 3)))


def test_figures_of_perfect_videos_reach_every_target(clips_folder):
    clips = labelled_clips(clips_folder)
    figures = figures_of(clips, make_judged(clips, HELD_OUT, [clip.verb for clip in clips]))
    assert figures["held_out.verb"].value == 1 and figures["gap.verb"].value == 0
    assert figures[f"{SHUFFLED}.verb"].value == pytest.approx(1 / 3), "one of the three other captions has that verb"
    assert all(gate["passed"] for gate in gates(figures))


def test_figures_tell_what_is_wrong(clips_folder):
    clips = labelled_clips(clips_folder)
    worse = make_judged(clips, HELD_OUT, ["standing"] * 4, ["robot", "robot", "robot", "cat"], flicker=2.0, shift=3.0)
    figures = figures_of(clips, worse)
    assert (figures["held_out.actor"].value, figures["gap.actor"].value) == (0.75, 0.25)
    assert figures["held_out.verb"].value == figures[f"{SHUFFLED}.verb"].value == 0.5, (
        "one answer for all is worth nothing"
    )
    assert figures["held_out.distance"].value > figures["rendered.distance"].value + 10
    missed = {gate["gate"]: gate["value"] for gate in gates(figures) if not gate["passed"]}
    assert missed["flicker over that of rendered clips"] == 2
    gap = "gap of seen over held-out pairs, less that of rendered clips"
    assert {"actor, held-out pairs", "verb, held-out pairs", f"{gap}, verb"} < missed.keys()


def test_gap_is_less_the_judges_own(clips_folder):
    clips = labelled_clips(clips_folder)
    right, names = [clip.verb for clip in clips], [clip.actor for clip in clips]
    worse = [*names[:2], "nobody", "nobody"]
    blind = [
        video
        for row in ROWS
        for video in make_judged(clips, row, right, worse if row in (SEEN, RENDERED_SEEN) else names)
    ]
    figures = board_figures(blind, np.random.default_rng(1).normal(0, 1, (50, 3)))
    assert (figures["seen.actor"].value, figures["held_out.actor"].value) == (0.5, 1)
    gap = figures["gap.actor"]
    assert (gap.value, gap.n) == (0, 4 * len(clips)) and gap.low < 0 < gap.high, (
        "the judge is as blind to rendered clips"
    )
    hidden = [replace(video, actor="nobody") if video.row == HELD_OUT else video for video in blind]
    figures = board_figures(hidden, np.random.default_rng(1).normal(0, 1, (50, 3)))
    assert figures["gap.actor"].value == 1.0
    assert [gate["passed"] for gate in gates(figures) if "gap" in gate["gate"]] == [False, True, True]


def test_flicker_that_cannot_be_measured_reaches_nothing(clips_folder):
    clips = labelled_clips(clips_folder)
    figures = figures_of(clips, make_judged(clips, HELD_OUT, ["running"] * 4, flicker=None))
    assert figures["held_out.flicker"].n == 0
    (gate,) = [gate for gate in gates(figures) if "flicker" in gate["gate"]]
    assert (gate["value"], gate["passed"]) == (None, False)
