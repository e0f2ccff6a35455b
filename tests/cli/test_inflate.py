import numpy as np
import torch

import t2v
from t2v.models.base import load_state_dict
from t2v.models.unet import VideoUNet

PROMPT = "a cat"


def test_inflate_writes_motion_that_changes_nothing(t2v_command, tiny_image_model, tmp_path):
    done = t2v_command("inflate", tiny_image_model, "-o", "new/video", "--num-frames", 3)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "new/video/motion"
    assert "t2v train temporal" in done.err and "--motion new/video/motion" in done.err
    pipe = t2v.load(str(tiny_image_model), device="cpu", dtype="fp32", motion="new/video/motion")
    assert pipe.defaults.num_frames == 3
    video = pipe(PROMPT, num_frames=3, sampler="ddim")
    assert not np.array_equal(video.frames[0], video.frames[1]), "each frame has its own noise"
    pipe.unet = VideoUNet.from_pretrained(tiny_image_model / "unet")  # the image network, frame by frame
    assert np.abs(pipe(PROMPT, num_frames=3, sampler="ddim").frames.astype(int) - video.frames).max() <= 1


def test_inflate_chooses_the_temporal_layers(t2v_command, tiny_image_model):
    assert t2v_command("inflate", tiny_image_model, "-o", "new", "--no-temporal-conv").code == 0
    assert not any("temporal_conv" in name for name in load_state_dict("new/motion"))
    for motion in ("new/motion", "new"):  # the folder around it will do
        found = t2v_command("info", tiny_image_model, "--motion", motion)
        assert "is temporal (attention)" in found.out, found.err


def test_inflate_into_the_model_folder_makes_it_a_video_model(t2v_command, tmp_path):
    from tests.conftest import write_tiny_model

    model = write_tiny_model(tmp_path / "model", motion=False)
    assert t2v_command("inflate", model, "-o", model).code == 0
    assert t2v_command("generate", PROMPT, "--model", model, "--num-frames", 2).code == 0


def test_inflate_is_reproducible(t2v_command, tiny_image_model):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert t2v_command("inflate", tiny_image_model, "-o", name, "--seed", seed).code == 0
    a, b, c = (load_state_dict(f"{name}/motion") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_inflate_refuses_to_replace_motion(t2v_command, tiny_image_model, tmp_path):
    (tmp_path / "x/motion").mkdir(parents=True)
    done = t2v_command("inflate", tiny_image_model, "-o", "x")
    assert done.code == 2 and "exists" in done.err
    assert list((tmp_path / "x/motion").iterdir()) == []
    assert t2v_command("inflate", tiny_image_model, "-o", "x", "--overwrite").code == 0


def test_inflate_refuses_bad_input(t2v_command, tiny_image_model, tmp_path):
    for arguments, message in (
        (("nowhere", "-o", "x"), "no model at nowhere"),
        ((tiny_image_model, "-o", "x", "--num-frames", 0), "num_frames must be a positive integer, got 0"),
        ((tiny_image_model, "-o", "x", "--fps", 0), "fps must be a positive number, got 0"),
    ):
        done = t2v_command("inflate", *arguments)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
