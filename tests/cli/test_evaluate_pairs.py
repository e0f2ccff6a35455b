import json

from tests.evaluation.moving_texture import write_videos, write_weights


def test_pairs_with_and_without_weights(t2v_command, tmp_path):
    write_weights(tmp_path / "weights")
    write_videos(tmp_path / "truth", 0, 2, records=False)
    write_videos(tmp_path / "made", 0, 2, lambda frames, _: frames // 2)
    done = t2v_command("evaluate", "pairs", "made", "truth", "-o", "a.json")
    assert done.code == 0 and done.out.startswith("PSNR") and "left out: LPIPS" in done.err
    options = ("--weights", "weights", "--unpublished-weights", "--skip-ends", "--quiet")
    done = t2v_command("evaluate", "pairs", "made", "truth", "-o", "b.json", *options)
    assert (done.code, done.err) == (0, "") and done.out.splitlines()[-1] == "b.json"
    assert "LPIPS (alex)" in json.loads((tmp_path / "b.json").read_text())["metrics"]
    done = t2v_command("evaluate", "compare", "a.json", "b.json")
    assert done.code == 2 and "settings.ends" in done.err


def test_the_missing_file_of_lpips_is_named(t2v_command, tmp_path):
    write_weights(tmp_path / "weights")
    (tmp_path / "weights" / "lpips_alex.safetensors").unlink()
    write_videos(tmp_path / "made", 0, 2)
    options = ("--weights", "weights", "--unpublished-weights")
    done = t2v_command("evaluate", "pairs", "made", "made", "-o", "a.json", *options)
    told = " ".join(done.err.split())
    assert done.code == 0 and "LPIPS: weights lacks alex.pth or" in told and "alexnet" not in told


def test_a_negative_seed_is_refused_before_anything_is_measured(t2v_command, tmp_path):
    for command in (("videos", "made"), ("images", "made"), ("pairs", "made", "truth")):
        done = t2v_command("evaluate", *command, "-o", "a.json", "--seed", -1)
        assert done.code == 2 and "equal to 0" in done.err, done.err
