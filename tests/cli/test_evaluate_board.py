import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from t2v.evaluation.labelled_clips import labelled_clips
from t2v.evaluation.matching import ActorPath
from t2v.evaluation.recogniser import Recogniser, load_recogniser, save_recogniser
from t2v.evaluation.recogniser_training import accuracy, config_for
from tests.evaluation.moving_sprite import write_clips, write_pictures


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The folder of a small board, and in `judge` a recogniser that knows nothing."""
    folder = tmp_path_factory.mktemp("board")
    write_clips(folder / "seen")
    for name in ("held-out", "reference"):
        shutil.copytree(folder / "seen", folder / name)
    write_pictures(folder / "sprites")
    config = config_for(labelled_clips(folder / "seen"))
    torch.manual_seed(0)
    small = Recogniser(replace(config, num_frames=3, size=16, motion_size=16, width=4))
    save_recogniser(small, folder / "judge", {})
    return folder


def test_mini_board_writes_figures_and_the_sheet(t2v_command, tiny_model, board, tmp_path, monkeypatch):
    still = ActorPath(*np.ones((5, 3)))  # matching has its own tests
    monkeypatch.setattr("t2v.evaluation.board.match_actor", lambda frames, sprite, height: still)
    options = ("--data", board, "--recogniser", board / "judge", "--model", tiny_model, "--num-videos", 2)
    given = ("--num-inference-steps", 1, "--deflicker", 0.5)
    done = t2v_command("evaluate", "mini-board", *options, *given, "-o", "board.json", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert ("held-out pairs" in done.out and "MISSED  actor" in done.out) or "reached actor" in done.out
    assert done.out.splitlines()[-1] == "board.json"
    result = json.loads((tmp_path / "board.json").read_text())
    assert result["protocol"]["num_videos"] == 2 and result["protocol"]["num_frames"] == 3
    assert result["protocol"]["settings"]["sampling"]["deflicker"] == 0.5
    assert result["metrics"]["rendered.seconds"]["n"] == 0 and result["metrics"]["held_out.seconds"]["value"] > 0
    assert len(result["videos"]) == 12 and len(result["subject"]["weights_sha256"]) == 64
    with Image.open(tmp_path / "board.jpg") as sheet:
        assert sheet.height > 4 * 32
    again = t2v_command("evaluate", "compare", "board.json", "board.json")
    assert again.code == 0 and "held_out.verb" in again.out


def test_mini_board_refuses_before_work(t2v_command, board, tmp_path):
    done = t2v_command("evaluate", "mini-board", "--data", tmp_path, "-o", "board.json")
    assert done.code == 2 and "t2v-data world board" in done.err and done.err.count("\n") == 1
    options = ("--data", board, "--recogniser", tmp_path, "--num-videos", 2)
    done = t2v_command("evaluate", "mini-board", *options, "-o", "board.json")
    assert done.code == 2 and "config.json is missing" in done.err
    done = t2v_command("evaluate", "mini-board", "--data", board, "-o", "board.txt")
    assert done.code == 2 and "a .json file" in done.err
    assert not list(tmp_path.iterdir())


def test_train_recogniser_writes_weights_and_accuracy(t2v_command, tmp_path, monkeypatch):
    write_clips(tmp_path / "clips")
    measured = []

    def measure(recogniser, clips):
        measured.append(recogniser.weights_sha256())
        return accuracy(recogniser, clips)

    monkeypatch.setattr("t2v.evaluation.recogniser_training.accuracy", measure)
    options = ("--data", "clips", "--check", "clips", "-o", "judge", "--num-steps", 1, "--batch-size", 2, "--quiet")
    done = t2v_command("evaluate", "train-recogniser", *options, "--num-frames", 6)
    assert (done.code, done.err) == (0, "") and "clips: num_clips 4" in done.out
    assert load_recogniser(tmp_path / "judge").config.verbs == ("running", "standing")
    assert measured == [load_recogniser(tmp_path / "judge").weights_sha256()], "of the weights that were written"
    training = json.loads((tmp_path / "judge" / "config.json").read_text())["training"]
    assert training["accuracy"]["clips"]["num_clips"] == 4 and training["num_steps"] == 1
    done = t2v_command("evaluate", "train-recogniser", *options)
    assert done.code == 2 and "--overwrite" in done.err
