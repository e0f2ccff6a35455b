import json

import yaml

from tests.evaluation.benchmark_folders import write_generated, write_msrvtt, write_ucf101
from tests.evaluation.moving_texture import write_weights
from tests.evaluation.test_zero_shot import CONFIGS

ONE_PROMPT = {"per": "class", "sentences": {"ApplyEyeMakeup": "a video", "YoYo": "a video"}}


def small(tmp_path, name, **changes):
    """A protocol file of the repository, for small numbers of small videos."""
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    content = {**content, "num_frames": 9, "resolution": 32, **changes}
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(content))
    return "protocol.yaml"


def test_ucf101_from_prompts_to_figures(t2v_command, tmp_path):
    write_ucf101(tmp_path / "ucf")
    write_weights(tmp_path / "weights")
    reference = {"split": "trainlist01", "num_videos": 3}
    file = small(tmp_path, "ucf101", num_videos=4, reference=reference)
    done = t2v_command("evaluate", "zero-shot", file, "--data", "ucf", "--write-prompts", "prompts.txt")
    assert done.code == 0, done.err
    assert "UCF-101 zero-shot: 4 real videos, 4 to generate for 2 prompts" in done.out
    for count in (1, 3):
        assert (
            f"t2v generate --prompts prompts-{count}.txt --num-videos {count} -o FOLDER/prompts-{count}.mp4" in done.out
        )
    prompts = [(tmp_path / f"prompts-{count}.txt").read_text().strip() for count in (3, 1)]
    done = t2v_command("evaluate", "zero-shot", file, "--data", "ucf", "--write-prompts", "prompts.txt")
    assert done.code == 2 and "prompts-1.txt exists" in done.err
    assert prompts[0].endswith("apply eye makeup") and len(prompts) == 2
    write_generated(tmp_path / "videos", prompts, 3)
    options = ("--data", "ucf", "--videos", "videos", "-o", "a.json")
    done = t2v_command("evaluate", "zero-shot", file, *options)
    assert done.code == 2 and "FVD cannot be measured" in done.err and "no --weights FOLDER" in done.err
    done = t2v_command("evaluate", "zero-shot", file, *options, "--weights", "weights", "--unpublished-weights")
    assert done.code == 0, done.err
    assert "published FVD 367.23 (Make-A-Video" in done.out and "published IS 33 (" in done.out
    assert done.out.count("nothing measured here is that quantity") == 2, "weights of other widths give no FVD"
    assert "What is not as in the paper:" in done.out and done.out.splitlines()[-1] == "a.json"
    result = json.loads((tmp_path / "a.json").read_text())
    protocol = result["protocol"]
    assert (protocol["num_videos"], protocol["reference"]["num_videos"]) == (4, 3)
    assert protocol["reference"]["split"] == "trainlist01" and protocol["settings"]["benchmark"] == "UCF-101 zero-shot"
    assert result["subject"]["seeds"] == [0, 1, 2, 0] and result["differs"]
    assert "frame IS (Inception-v3)" not in result["metrics"]


def test_msrvtt_clipsim_and_fid(t2v_command, tmp_path):
    write_msrvtt(tmp_path / "vtt")
    write_weights(tmp_path / "weights")
    file = small(tmp_path, "msrvtt", num_frames=2)
    done = t2v_command(
        "evaluate", "zero-shot", file, "--data", "vtt", "--write-prompts", "prompts.txt", "--num-videos", 3
    )
    assert done.code == 0, done.err
    write_generated(tmp_path / "videos", (tmp_path / "prompts.txt").read_text().splitlines(), 2)
    options = ("--data", "vtt", "--videos", "videos", "-o", "a.json", "--num-videos", 3)
    weights = ("--weights", "weights", "--unpublished-weights", "--quiet")
    done = t2v_command("evaluate", "zero-shot", file, *options, *weights)
    assert (done.code, done.err) == (0, "")
    assert "published CLIPSIM 0.3049" in done.out and "beside CLIPSIM" in done.out
    assert {"FID", "CLIPSIM"} <= json.loads((tmp_path / "a.json").read_text())["metrics"].keys()


def test_too_few_frames_for_fvd_are_told(t2v_command, tmp_path):
    write_ucf101(tmp_path / "ucf")
    write_weights(tmp_path / "weights")
    file = small(tmp_path, "ucf101", num_frames=8, num_videos=2, reference={"split": "trainlist01"}, prompts=ONE_PROMPT)
    write_generated(tmp_path / "videos", ["a video"], 2)
    options = ("--data", "ucf", "--videos", "videos", "-o", "a.json", "--weights", "weights", "--unpublished-weights")
    done = t2v_command("evaluate", "zero-shot", file, *options)
    assert done.code == 2 and "FVD (i3d_torchscript): needs 9 frames" in " ".join(done.err.split())


def test_options_that_go_together(t2v_command, tmp_path):
    done = t2v_command("evaluate", "zero-shot", CONFIGS / "ucf101.yaml", "--data", "x", "--videos", "y")
    assert done.code == 2 and "--videos FOLDER and --output JSON go together" in done.err


def test_export_vbench(t2v_command, tmp_path):
    write_generated(tmp_path / "videos", ["a cat", "a dog"], 2)
    done = t2v_command("evaluate", "export-vbench", "videos", "-o", "vbench", "--per-prompt", 2)
    assert (done.code, done.err) == (0, "") and done.out == "4 videos of 2 prompts\nvbench\n"
    record = json.loads((tmp_path / "vbench.json").read_text())
    assert [line["file"] for line in record] == [f"a {animal}-{i}.mp4" for animal in ("cat", "dog") for i in (0, 1)]
    assert record[0]["seed"] == 0 and len(list((tmp_path / "vbench").iterdir())) == 4
    done = t2v_command("evaluate", "export-vbench", "videos", "-o", "vbench", "--per-prompt", 2)
    assert done.code == 2 and "vbench exists" in done.err
