import json

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.moving_texture import moving_texture, write_videos, write_weights


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-videos")
    write_videos(folder / "made", 0, 3)
    write_videos(folder / "real", 10, 3, records=False)
    write_weights(folder / "weights")
    return folder


def test_videos_without_weights(t2v_command, root, tmp_path):
    done = t2v_command("evaluate", "videos", root / "made", "-o", "a.json", "--num-frames", 12)
    assert done.code == 0 and done.out.splitlines()[-1] == "a.json"
    assert done.out.startswith("sharpness") and "no --weights FOLDER" in done.err and "no --reference" in done.err
    assert json.loads((tmp_path / "a.json").read_text())["protocol"]["num_videos"] == 3
    done = t2v_command("evaluate", "compare", "a.json", "a.json")
    assert done.code == 0 and "flicker" in done.out


def test_broken_videos_of_the_reference_are_left_out_with_a_word(t2v_command, root, tmp_path):
    write_videos(tmp_path / "real", 10, 2, records=False)
    (tmp_path / "real" / "broken.mp4").write_bytes(b"broken")
    options = ("-o", "a.json", "--num-frames", 2, "--reference", "real", "--reference-split", "test of X")
    done = t2v_command("evaluate", "videos", root / "made", *options)
    assert done.code == 0 and done.err.count("left out") == 2 and "broken.mp4" in done.err
    reference = json.loads((tmp_path / "a.json").read_text())["protocol"]["reference"]
    assert (reference["split"], reference["num_videos"]) == ("test of X", 2)


def test_images_with_weights(t2v_command, root, tmp_path):
    for folder, first in (("made", 0), ("real", 10)):
        (tmp_path / folder).mkdir()
        for index in range(3):
            Image.fromarray(moving_texture(first + index)[0]).save(tmp_path / folder / f"{index}.png")
    (tmp_path / "prompts.txt").write_text("a\nb\nc\n")
    options = ("-o", "a.json", "--reference", "real", "--weights", root / "weights", "--prompts", "prompts.txt")
    done = t2v_command("evaluate", "images", "made", *options)
    assert done.code == 2 and "add --unpublished-weights" in done.err and not (tmp_path / "a.json").exists()
    done = t2v_command("evaluate", "images", "made", *options, "--unpublished-weights", "--quiet")
    assert (done.code, done.err) == (0, "")
    metrics = json.loads((tmp_path / "a.json").read_text())["metrics"]
    assert list(metrics) == ["sharpness", "frame IS (Inception-v3)", "FID", "CLIPSIM", "CLIP score"]
    assert all(np.isfinite(figure["value"]) for figure in metrics.values())


def test_errors_in_a_line(t2v_command, root, tmp_path):
    (tmp_path / "a.json").write_text("mine")
    for arguments, message in (
        (("-o", "a.json"), "--overwrite"),
        (("-o", "b.json", "--num-frames", 99), "has 12 frames, 99 are measured"),
        (("-o", "b.json", "--num-videos", 9), "has 3 videos, 9 are to be measured"),
        (("-o", "b.json", "--reference", "none"), "no folder none"),
        (("-o", "b.json", "--weights", "none"), "--weights: no folder none"),
    ):
        done = t2v_command("evaluate", "videos", root / "made", *arguments, "--quiet")
        assert done.code == 2 and done.err.count("\n") == 1 and message in done.err, done.err
    assert not (tmp_path / "b.json").exists() and (tmp_path / "a.json").read_text() == "mine"


def test_the_list_of_weights(t2v_command):
    done = t2v_command("evaluate", "weights")
    assert done.code == 0 and "i3d_torchscript.pt" in done.out and "bec6519f66ea" in done.out
