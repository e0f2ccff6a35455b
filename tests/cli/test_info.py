import json
import shutil
from pathlib import Path


def test_info_shows_parts_and_memory(t2v_command, tiny_model):
    done = t2v_command("info", tiny_model, "--num-frames", 4, "--width", 64)
    assert (done.code, done.err) == (0, "")
    for text in (
        "text_encoder",
        "unet",
        "vae",
        "motion",
        "temporal",
        "scaled_linear",
        "4 frames, 64x32",
        "memory",
        "sequential",
    ):
        assert text in done.out


def test_info_json_is_one_object(t2v_command, tiny_model):
    values = json.loads(t2v_command("info", tiny_model, "--json").out)
    assert {part["name"] for part in values["parts"]} == {"text_encoder", "unet", "vae", "motion"}
    assert 0 < values["temporal_share"] < 1


def test_info_of_an_image_model_says_what_is_missing(t2v_command, tiny_image_model):
    done = t2v_command("info", tiny_image_model)
    assert done.code == 0
    assert "an image model" in done.out and "t2v train temporal" in done.out


def test_info_tells_the_defaults_that_shape_a_video(t2v_command, tiny_model, tmp_path):
    (line,) = [line for line in t2v_command("info", tiny_model).out.splitlines() if line.startswith("defaults")]
    assert line.split(maxsplit=1)[1] == "euler, 3 steps, guidance 3 by the video network, 8 fps"
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = model / "generation_config.json"
    given = {"guidance": "image", "motion_guidance": 1.5, "deflicker": 0.1}
    given |= {"shared_noise": 0.9, "noise_prior": "progressive"}
    config.write_text(json.dumps(json.loads(config.read_text()) | given))
    out = " ".join(t2v_command("info", model).out.split())
    assert "guidance 3 by the image network, of motion 1.5, 8 fps, 0.9 progressive noise, deflicker 0.1" in out


def test_info_warns_on_stderr(t2v_command, tiny_model):
    done = t2v_command("info", tiny_model, "--num-frames", 40, "--json")
    assert "warning: 40 frames, but the motion was trained on 4" in done.err
    assert json.loads(done.out)["settings"]["num_frames"] == 40


def test_info_refuses_an_unknown_model(t2v_command):
    done = t2v_command("info", "nowhere")
    assert done.code == 2
    assert done.err.startswith("error: no model at nowhere") and done.err.count("\n") == 1


def test_info_of_a_single_file_is_that_of_its_folder(t2v_command, tiny_model, tmp_path):
    from t2v.models.checkpoint import read_folder
    from t2v.models.single_file import write_single_file

    write_single_file(read_folder(tiny_model), tmp_path / "model.safetensors")
    motion = tiny_model / "motion"
    sizes = ("--height", 32, "--width", 32, "--json")
    done = [
        json.loads(t2v_command("info", model, "--motion", motion, *sizes).out)
        for model in (tmp_path / "model.safetensors", tiny_model)
    ]
    for values in done:
        for part in values["parts"]:
            del part["num_bytes"]
    assert done[0]["parts"] == done[1]["parts"]
    assert done[0]["schedule"] == done[1]["schedule"]


def test_info_of_a_motion_folder_and_a_lora(t2v_command, tiny_model, tmp_path):
    import torch
    from safetensors.torch import save_file

    done = t2v_command("info", tiny_model / "motion")
    assert done.code == 0 and "motion of t2v" in done.out and "4 frames" in done.out
    weights = {f"lora_unet_a.lora_{side}.weight": torch.zeros(4, 4) for side in ("down", "up")}
    save_file({**weights, "lora_te_b.lora_down.weight": torch.zeros(8, 4)}, "a.safetensors")
    facts = json.loads(t2v_command("info", "a.safetensors", "--json").out)
    assert (facts["kind"], facts["rank"], facts["layers"]) == ("LoRA", "4, 8", "1 of the U-Net, 1 of the text encoder")
    save_file(weights, "lcm.safetensors")
    assert "distilled  by its name: sampler lcm, num_inference_steps 6" in t2v_command("info", "lcm.safetensors").out
    save_file({"x": torch.zeros(3)}, "b.safetensors")
    assert "unknown weights" in t2v_command("info", "b.safetensors").out


def test_info_offline_asks_no_network(t2v_command, tiny_model, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot_download(name, allow_patterns, local_files_only=False):
        asked.append((name, local_files_only))
        return str(tiny_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for arguments in (("--offline",), ()):
        done = t2v_command("info", "someone/model", *arguments)
        assert done.code == 0, done.err
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert set(asked) == {("someone/model", True), ("someone/model", False)}
