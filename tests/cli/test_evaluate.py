import json

import numpy as np
import pytest
from PIL import Image

from t2v import __version__
from tests.evaluation.moving_sprite import write_clips, write_pictures


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_clips(folder / "clips")
    write_pictures(folder / "sprites")
    return folder


def test_evaluate_motion_writes_a_report(t2v_command, tiny_model, world, tmp_path):
    options = ("--data", world / "clips", "--sprites", world / "sprites", "--model", tiny_model, "-o", "report.json")
    done = t2v_command("evaluate", "motion", *options, "--num-videos", 2, "--seed", 5, "--deflicker", 0.5, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "report.json"
    assert "running" in done.out and "verb from motion alone" in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    protocol = report["protocol"]
    assert (protocol["seeds"], protocol["num_rendered"], protocol["num_frames"]) == ([5, 6], 4, 4)
    assert protocol["settings"]["sampler"] == "euler" and protocol["settings"]["deflicker"] == 0.5
    assert len(protocol["weights_sha256"]) == 64
    assert [video["verb"] for video in report["generated"]] == ["standing", "running"]
    assert report["verbs"]["running"]["verdict"]["match"]["within_tolerance"] in (True, False)


def test_evaluate_motion_refuses_before_work(t2v_command, world, tmp_path):
    options = ("--data", world / "clips", "--sprites", tmp_path, "-o", "report.json")
    done = t2v_command("evaluate", "motion", *options)
    assert done.code == 2
    assert "no actors.json" in done.err and done.err.count("\n") == 1
    (tmp_path / "report.json").write_text("mine")
    done = t2v_command("evaluate", "motion", *options)
    assert done.code == 2 and "--overwrite" in done.err
    assert (tmp_path / "report.json").read_text() == "mine"


def test_evaluate_frame_rates_of_a_model_and_of_clips(t2v_command, tiny_model, world, tmp_path):
    (tmp_path / "prompts.txt").write_text("a robot dancing in times square\n")
    options = ("--prompts", "prompts.txt", "--model", tiny_model, "-o", "rates.json", "--quiet")
    done = t2v_command("evaluate", "frame-rates", *options, "--num-inference-steps", 1, "--deflicker", 0.5)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("displacement: rank correlation") and done.out.splitlines()[-1] == "rates.json"
    report = json.loads((tmp_path / "rates.json").read_text())
    assert len(report["videos"]) == 6
    protocol = report["protocol"]
    assert (protocol["prompts"], protocol["seed"], protocol["model"]) == ("prompts.txt", 0, str(tiny_model))
    assert protocol["settings"]["deflicker"] == 0.5 and "fps" not in protocol["settings"]
    assert protocol["settings"]["num_inference_steps"] == 1 and len(protocol["weights_sha256"]) == 64
    options = ("--clips", world / "clips", "--num-clips", 2, "--num-frames", 3, "-o", "clips.json")
    assert t2v_command("evaluate", "frame-rates", *options).code == 0
    protocol = json.loads((tmp_path / "clips.json").read_text())["protocol"]
    assert protocol == {"t2v": __version__, "clips": str(world / "clips"), "num_clips": 2, "num_frames": 3}
    done = t2v_command("evaluate", "frame-rates", "-o", "more.json")
    assert done.code == 2 and "either --prompts FILE or --clips FOLDER" in done.err


def test_evaluate_sheet_of_a_model_has_a_row_for_every_prompt(t2v_command, tiny_model, tmp_path):
    (tmp_path / "prompts.txt").write_text("a robot dancing in times square\na cat on the beach\n")
    options = ("--prompts", "prompts.txt", "--model", tiny_model, "--frames", 3, "-o", "sheet.png", "--quiet")
    done = t2v_command("evaluate", "sheet", *options)
    assert (done.code, done.out, done.err) == (0, "sheet.png\n", "")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] > 2 * 32 and sheet.shape[1] > 3 * 32


def test_evaluate_sheet_follows_the_settings_of_guidance(t2v_command, tiny_model, tmp_path):
    (tmp_path / "prompts.txt").write_text("a robot dancing in times square\n")
    options = ("--prompts", "prompts.txt", "--model", tiny_model, "--frames", 3, "--num-inference-steps", 1, "--quiet")
    settings = {"one.png": (), "two.png": ("--motion-guidance", 2), "three.png": ("--guidance-scale", 2)}
    settings["four.png"] = ("--deflicker", 1)
    for name, given in settings.items():
        done = t2v_command("evaluate", "sheet", *options, "--guidance", "image", *given, "-o", name)
        assert (done.code, done.err) == (0, "")
    assert len({(tmp_path / name).read_bytes() for name in settings}) == 4


def test_evaluate_sheet_of_clips_shows_the_rendered_ceiling(t2v_command, world, tmp_path):
    options = ("--clips", world / "clips", "--num-clips", 2, "--num-frames", 4, "--frames", 4, "-o", "sheet.png")
    done = t2v_command("evaluate", "sheet", *options)
    assert done.code == 0
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[1] > 4 * 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "sheet.png"), "either --prompts FILE or --clips FOLDER"),
        (("-o", "sheet.jpg", "--clips", "x"), "a .png file"),
        (("-o", "missing/sheet.png", "--clips", "x"), "does not exist"),
        (("-o", "sheet.png", "--clips", "x"), "manifest not found"),
        (("-o", "sheet.png", "--prompts", "x"), "cannot read the prompts file"),
    ],
)
def test_evaluate_sheet_refuses(t2v_command, tiny_model, options, message):
    done = t2v_command("evaluate", "sheet", *options, "--model", tiny_model, "--quiet")
    assert done.code == 2
    assert message in done.err and done.err.count("\n") == 1


def test_evaluate_interpolation_measures_the_network_and_the_baselines(t2v_command, tiny_model, world, tmp_path):
    from t2v.models.folder import load_components
    from t2v.models.interpolation import save_interpolation, widen

    options = ("evaluate", "interpolation", "--data", world / "clips", "--sprites", world / "sprites", "-o", "r.json")
    small = ("--num-clips", 2, "--num-frames", 3, "--model", tiny_model, "--quiet")
    done = t2v_command(*options, *small)
    assert done.code == 2 and "has no interpolation weights" in done.err and not list(tmp_path.iterdir())
    save_interpolation(widen(load_components(str(tiny_model)).unet), tmp_path / "interpolation")
    sampling = ("--interpolation", "interpolation", "--num-inference-steps", 1, "--methods", "diffusion,crossfade,hold")
    sampling += ("--hint", "flow")
    done = t2v_command(*options, *small, *sampling)
    assert (done.code, done.err) == (0, "") and done.out.splitlines()[-1] == "r.json"
    report = json.loads((tmp_path / "r.json").read_text())
    assert f"not linear straight line n {report['straight_line']['n']} " in done.out
    (line, *_), names = report["clips"], {"diffusion", "crossfade", "hold", "autoencoder"}
    assert line["methods"].keys() == names and report["clips"][1]["methods"].keys() == names | {"swapped"}
    record = report["protocol"]["methods"]["diffusion"]
    assert record["num_inference_steps"] == 1 and record["hint"] == "flow" and report["gates"]
    assert report["frame_rates"]["displacement"]["mean"].keys() >= {"4.0", "24.0"}
    done = t2v_command(*options, "--methods", "magic", "--overwrite")
    assert done.code == 2 and "unknown method 'magic'" in done.err


def test_evaluate_real_interpolation_writes_a_report_and_a_sheet(t2v_command, tmp_path):
    from PIL import Image

    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "list.csv").write_text("first,second,start,shown,credit\na.png,b.png,,yes,me; CC0\n")
    options = ("evaluate", "real-interpolation", "--sources", "list.csv", "--data", ".", "-o", "r.json", "--size", 32)
    done = t2v_command(*options, "--methods", "crossfade,hold", "--num-frames", 5)
    assert (done.code, done.out.splitlines()) == (0, ["r.jpg", "r.json"]), done.err
    assert json.loads((tmp_path / "r.json").read_text())["protocol"]["methods"]["hold"] == {"method": "hold"}
    assert Image.open(tmp_path / "r.jpg").height > 2 * 32
    done = t2v_command(*options, "--methods", "crossfade")
    assert done.code == 2 and "r.json exists" in done.err
