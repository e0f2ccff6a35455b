import torch

import t2v
from t2v.models.base import load_state_dict


def test_mean_of_two_trainings_generates(t2v_command, tiny_image_model, tmp_path):
    for seed in (1, 2):
        t2v_command("inflate", tiny_image_model, "-o", f"run{seed}", "--num-frames", 3, "--seed", seed)
    done = t2v_command("average", "run1/motion", "run2/motion", "-o", "both/motion")
    assert (done.code, done.out, done.err) == (0, "both/motion\n", "")
    one, other, mean = (load_state_dict(f"{folder}/motion") for folder in ("run1", "run2", "both"))
    assert any(not torch.equal(one[name], other[name]) for name in one), "the seeds make different weights"
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (one[name] + other[name]) / 2)
    pipe = t2v.load(str(tiny_image_model), device="cpu", dtype="fp32", motion="both/motion")
    assert pipe("a cat", num_frames=3, sampler="ddim").frames.shape[0] == 3


def test_nothing_is_left_or_replaced(t2v_command, tiny_image_model, tmp_path):
    t2v_command("inflate", tiny_image_model, "-o", "run", "--num-frames", 3)
    before = sorted(tmp_path.rglob("*"))
    for sources, output, message in (
        (["run/motion", "nowhere"], "deep/er/mean", "nowhere is no network's folder"),
        (["run/motion"], "mean", "takes at least two networks, got 1"),
        (["run/motion", tiny_image_model / "unet"], "deep/mean", "average trainings of one configuration"),
        (["run/motion", "run/motion"], "run/motion", "run/motion exists; choose another name\n"),
    ):
        done = t2v_command("average", *sources, "-o", output)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
    assert sorted(tmp_path.rglob("*")) == before
