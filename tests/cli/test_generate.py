import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from t2v.pipelines.text_to_video import TextToVideoPipeline

PROMPT = "a robot dancing in Times Square"


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_generate_writes_video_and_record_to_outputs(t2v_command, tiny_model, tmp_path):
    done = t2v_command("generate", PROMPT, "--model", tiny_model, "--seed", 3)
    assert done.code == 0, done.err
    path = "outputs/a-robot-dancing-in-times-square-3.mp4"
    assert done.out.splitlines()[-1] == path
    assert decode(tmp_path / path).shape == (4, 32, 32, 3)
    assert tree(tmp_path) == {"outputs", path, path.replace(".mp4", ".json")}
    with av.open(path) as container:
        assert container.metadata["title"] == PROMPT
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    record = json.loads(Path(path).with_suffix(".json").read_text())
    assert record["prompt"] == PROMPT and record["seed"] == 3
    assert record["settings"]["num_inference_steps"] == 3 and record["settings"]["sampler"] == "euler"
    assert record["model"] == str(tiny_model) and len(record["weights_sha256"]) == 64
    assert "frames, 32x32, 8 fps in" in done.err and "peak memory" in done.err


def test_generate_from_record_repeats_bit_for_bit(t2v_command, tiny_model, tmp_path):
    options = ("--num-frames", 3, "--fps", 12, "--sampler", "ddpm", "--guidance-scale", 2, "--negative-prompt", "a cat")
    options += ("--guidance", "image", "--motion-guidance", 1.5, "--deflicker", 0.5)
    assert t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "x.webm", *options).code == 0
    assert json.loads(Path("x.json").read_text())["settings"]["deflicker"] == 0.5
    done = t2v_command("generate", "--from", "x.json")
    assert (done.code, done.out) == (0, "x-repeat.webm\n")
    assert Path("x-repeat.webm").read_bytes() == Path("x.webm").read_bytes()
    first, second = (json.loads(Path(name).read_text()) for name in ("x.json", "x-repeat.json"))
    for record in (first, second):
        del record["seconds"], record["file"]
    assert first == second


def test_a_record_without_the_newer_settings_was_made_before_there_were_any(t2v_command, tiny_model):
    config = tiny_model / "generation_config.json"
    options = ("--model", tiny_model, "--shared-noise", 0.5)
    assert t2v_command("generate", PROMPT, *options, "-o", "x.gif").code == 0
    assert t2v_command("generate", PROMPT, *options, "-o", "image.gif", "--guidance", "image").code == 0
    assert Path("x.gif").read_bytes() != Path("image.gif").read_bytes()
    record = json.loads(Path("x.json").read_text())
    for setting in ("guidance", "motion_guidance", "noise_prior", "deflicker"):
        del record["settings"][setting]
    model = Path(shutil.copytree(tiny_model, "model"))
    Path("x.json").write_text(json.dumps(record | {"model": str(model)}))
    newer = {"guidance": "image", "motion_guidance": 1.5, "noise_prior": "progressive", "deflicker": 0.5}
    (model / config.name).write_text(json.dumps(json.loads(config.read_text()) | newer))
    done = t2v_command("generate", "--from", "x.json", "-o", "y.gif")
    assert done.code == 0, done.err
    assert Path("y.gif").read_bytes() == Path("x.gif").read_bytes()
    settings = json.loads(Path("y.json").read_text())["settings"]
    assert (settings["guidance"], settings["motion_guidance"], settings["noise_prior"]) == ("video", 1.0, "mixed")
    assert settings["deflicker"] == 0


def test_generate_from_record_takes_other_options(t2v_command, tiny_model):
    assert t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "x", "--num-frames", 2).code == 0
    done = t2v_command("generate", "a cat", "--from", "x.json", "--seed", 9, "-o", "y.gif")
    assert done.code == 0, done.err
    record = json.loads(Path("y.json").read_text())
    assert (record["prompt"], record["seed"], record["settings"]["num_frames"]) == ("a cat", 9, 2)


def test_the_noise_is_the_motions_unless_given(t2v_command, tiny_model):
    def noise(*arguments):
        done = t2v_command("generate", *arguments, "--overwrite", "-o", "y.gif")
        assert done.code == 0, done.err
        settings = json.loads(Path("y.json").read_text())["settings"]
        return settings["shared_noise"], settings["noise_prior"]

    assert noise(PROMPT, "--model", tiny_model, "--num-frames", 2) == (0, "mixed")
    chosen = ("--shared-noise", 0.5, "--noise-prior", "progressive")
    assert t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "x", *chosen).code == 0
    assert noise("--from", "x.json") == (0.5, "progressive")
    other = ("--from", "x.json", "--motion", tiny_model / "motion")  # other motion, its own noise
    assert noise(*other) == (0, "mixed")
    assert noise(*other, "--shared-noise", 0.3) == (0.3, "mixed")


def test_generate_from_record_warns_about_other_weights(t2v_command, tiny_model):
    assert t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "x.mp4").code == 0
    record = json.loads(Path("x.json").read_text())
    assert "recorded ones" not in t2v_command("generate", "--from", "x.json", "-o", "y.mp4").err
    Path("x.json").write_text(json.dumps(record | {"weights_sha256": "0" * 64}))
    assert "are not the recorded ones" in t2v_command("generate", "--from", "x.json").err


def test_generate_from_a_single_file_makes_the_video_of_its_folder(t2v_command, tiny_model, tmp_path):
    from t2v.models.checkpoint import read_folder
    from t2v.models.single_file import write_single_file

    write_single_file(read_folder(tiny_model), tmp_path / "model.safetensors")
    options = (
        "--motion",
        tiny_model / "motion",
        "--num-inference-steps",
        3,
        "--guidance-scale",
        3,
        "--sampler",
        "ddim",
    )
    refused = t2v_command("generate", PROMPT, "--model", "model.safetensors", *options)
    assert refused.code == 2 and "give --tokenizer" in refused.err and refused.err.count("\n") == 1
    assert t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "a", *options).code == 0
    own = ("--model", "model.safetensors", "--tokenizer", tiny_model)
    done = t2v_command("generate", PROMPT, "-o", "b", *own, *options)
    assert done.code == 0, done.err
    assert t2v_command("generate", "--from", "b.json", "-o", "c").code == 0
    for name in sorted(path.name for path in Path("a").iterdir()):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes() == Path("c", name).read_bytes()


def test_generate_says_what_a_file_of_another_family_is(t2v_command, tmp_path):
    from safetensors.torch import save_file

    files = {
        "xl": ("conditioner.embedders.0.transformer.x", "a Stable Diffusion XL checkpoint"),
        "modelscope": ("input_blocks.0.1.norm.weight", "a ModelScope U-Net in its original layout"),
        "mm": ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "AnimateDiff file"),
        "lora": ("lora_unet_x.lora_down.weight", "give it with --lora"),
    }
    for name, (key, message) in files.items():
        save_file({key: torch.zeros(1)}, f"{name}.safetensors")
        done = t2v_command("generate", PROMPT, "--model", f"{name}.safetensors")
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert tree(tmp_path) == {f"{name}.safetensors" for name in files}


def test_generate_merges_loras_and_repeats_them(t2v_command, tiny_model, tmp_path):
    from safetensors.torch import save_file

    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 8), f"{layer}.lora_B.weight": torch.ones(8, 2)}, "a.safetensors")
    assert t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "plain").code == 0
    lora = ("--lora", "a.safetensors:0.5", "--lora", "a.safetensors:-0.3")
    done = t2v_command("generate", PROMPT, "--model", tiny_model, *lora, "-o", "changed")
    assert done.code == 0 and "a.safetensors: merged into 1 layers with weight 0.5" in done.err
    record = json.loads(Path("changed.json").read_text())
    assert record["loras"] == [f"{tmp_path / 'a.safetensors'}:0.5", f"{tmp_path / 'a.safetensors'}:-0.3"]
    assert t2v_command("generate", "--from", "changed.json", "-o", "again").code == 0
    frames = [sorted(Path(name).iterdir())[0].read_bytes() for name in ("plain", "changed", "again")]
    assert frames[0] != frames[1] == frames[2]
    refused = t2v_command("generate", PROMPT, "--model", tiny_model, "--lora", "none.safetensors:0.5", "-o", "x")
    assert refused.code == 2 and "none.safetensors" in refused.err and refused.err.count("\n") == 1


def test_generate_with_animatediff_says_what_it_sets(t2v_command, tiny_image_model):
    diffusers = pytest.importorskip("diffusers")
    options = {"block_out_channels": (8, 16), "motion_layers_per_block": 1, "motion_num_attention_heads": 2}
    diffusers.MotionAdapter(**options, motion_norm_num_groups=4).save_pretrained("adapter")
    arguments = ("--model", tiny_image_model, "--motion", "adapter", "--num-frames", 3)
    done = t2v_command("generate", PROMPT, *arguments, "-o", "a")
    assert done.code == 0, done.err
    assert "adapter is AnimateDiff v2: the scheduler is set to linear betas" in done.err
    assert t2v_command("generate", "--from", "a.json", "-o", "b", "--motion-norm", "frame").code == 0
    first, second = (sorted(Path(name).iterdir())[-1].read_bytes() for name in ("a", "b"))
    assert first != second
    assert json.loads(Path("b.json").read_text())["motion_norm"] == "frame"
    refused = t2v_command("generate", PROMPT, *arguments, "-o", "c", "--motion-norm", "group")
    assert refused.code == 2 and "known are clip, frame" in refused.err


def test_generate_travels_through_prompts_and_repeats_them(t2v_command, tiny_model):
    travel = ("--prompt-at", "3: a dog", "--prompt-at", '2:a cat, or: "two"')
    travel += ("--timestep-spacing", "trailing")
    assert t2v_command("generate", PROMPT, "--model", tiny_model, *travel, "-o", "a.webp").code == 0
    record = json.loads(Path("a.json").read_text())
    assert (record["prompt"], record["settings"]["timestep_spacing"]) == (PROMPT, "trailing")
    assert record["settings"]["prompt_at"] == {"2": 'a cat, or: "two"', "3": "a dog"}
    done = t2v_command("generate", "--from", "a.json", "-o", "b.webp")
    assert done.code == 0, done.err
    assert Path("a.webp").read_bytes() == Path("b.webp").read_bytes()
    first = ("--prompt-at", f"0:{PROMPT}")
    assert t2v_command("generate", *first, "--model", tiny_model, *travel, "-o", "c.webp").code == 0
    assert Path("a.webp").read_bytes() == Path("c.webp").read_bytes()
    refused = t2v_command("generate", "--from", "a.json", "--num-frames", 3, "-o", "d.webp")
    assert refused.code == 2 and "frame 3 a prompt, the video has frames 0 to 2" in refused.err
    refused = t2v_command("generate", "--from", "a.json", "--interpolate", 2, "-o", "d.webp")
    assert refused.code == 2 and "--interpolate knows one prompt" in refused.err


def test_generate_several_prompts_and_videos(t2v_command, tiny_model, tmp_path):
    Path("prompts.txt").write_text("a cat\n\na robot\n")
    done = t2v_command("generate", "--prompts", "prompts.txt", "--num-videos", 2, "--model", tiny_model, "-q")
    assert done.err == ""
    names = ["1-a-cat-0", "1-a-cat-1", "2-a-robot-0", "2-a-robot-1"]
    assert done.out.splitlines() == [f"outputs/{name}.mp4" for name in names]
    assert tree(tmp_path / "outputs") == {f"{name}.{suffix}" for name in names for suffix in ("mp4", "json")}


def test_generate_json_tells_where_the_time_went(t2v_command, tiny_model):
    done = t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "x.mp4", "--json", "--quiet")
    result = json.loads(done.out.splitlines()[-1])
    assert result["path"] == "x.mp4"
    assert set(result["seconds"]) == {"import", "load", "text", "denoise", "decode", "encode", "total"}
    assert all(seconds >= 0 for seconds in result["seconds"].values())
    assert result["peak_memory_bytes"] > 50e6


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.webm", "frames"])
def test_generate_writes_other_formats(t2v_command, tiny_model, tmp_path, name):
    assert t2v_command("generate", PROMPT, "--model", tiny_model, "-o", name).out == f"{name}\n"
    assert (tmp_path / name).exists() and (tmp_path / name).with_suffix(".json").exists()


def test_generate_preview_shows_the_picture_form(t2v_command, tiny_model, tmp_path, monkeypatch):
    from PIL import Image

    from t2v.pipelines.video import Video

    shown = []
    save = Video.save

    def spy(self, path, overwrite=False):
        shown.append((Path(path).name, self.frames))
        return save(self, path, overwrite)

    monkeypatch.setattr(Video, "save", spy)
    options = ("--preview", "--num-inference-steps", 4)
    assert t2v_command("generate", PROMPT, "--model", tiny_model, *options).code == 0
    assert [name.endswith(".preview.webp") for name, _ in shown] == [True] * 4 + [False]
    assert not np.array_equal(shown[0][1], shown[3][1])
    assert np.array_equal(shown[3][1], shown[4][1]), "the last estimate is the video"
    with Image.open(next(tmp_path.glob("outputs/*.preview.webp"))) as preview:
        assert (preview.n_frames, preview.size) == (4, (32, 32))


def test_generate_preview_keeps_an_existing_file(t2v_command, tiny_model, tmp_path):
    (tmp_path / "x.preview.webp").write_text("mine")
    done = t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "x.mp4", "--preview")
    assert done.code == 2 and "x.preview.webp exists" in done.err
    assert (tmp_path / "x.preview.webp").read_text() == "mine"
    assert tree(tmp_path) == {"x.preview.webp"}


def test_generate_warns_of_what_the_model_was_not_trained_for(t2v_command, tiny_model, tmp_path):
    done = t2v_command("generate", "a dragon in Times Square", "--model", tiny_model, "--num-frames", 6)
    assert done.code == 0
    warnings = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert '"dragon"' in warnings[0] and "Times" not in warnings[0]
    assert "6 frames, but the motion was trained on 4" in warnings[1]


def test_generate_warns_once_for_several_videos(t2v_command, tiny_model):
    done = t2v_command("generate", "a dragon", "--model", tiny_model, "--num-videos", 2)
    assert done.err.count("dragon") == 1


def test_generate_warns_of_another_scheduler(t2v_command, tmp_path):
    from tests.conftest import write_tiny_model

    model = write_tiny_model(tmp_path / "model")
    scheduler = model / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("scaled_linear", "linear"))
    done = t2v_command("generate", "a cat", "--model", model)
    assert done.code == 0
    assert "trained with another scheduler; this model has beta_schedule linear instead of scaled_linear" in done.err


BAD = {
    "no prompt": ((), "the prompt is empty"),
    "empty prompt": (("",), "the prompt is empty"),
    "blank prompt": (("  ",), "the prompt is empty"),
    "prompt and file": (("a", "--prompts", "none.txt"), "give a prompt or --prompts FILE, not both"),
    "prompts file": (("--prompts", "none.txt"), "cannot read the prompts file none.txt"),
    "record": (("--from", "none.json"), "cannot read none.json"),
    "frames": (("a", "--num-frames", 0), "num_frames must be a whole number of at least 1, got 0"),
    "fps": (("a", "--fps", 0), "fps must be above 0"),
    "steps": (("a", "--num-inference-steps", 0), "num_inference_steps must be"),
    "guidance": (("a", "--guidance-scale", -1), "guidance_scale must be at least 0"),
    "guidance by": (("a", "--guidance", "text"), "unknown guidance 'text'; known are video, image"),
    "chunk": (("a", "--chunk-size", 0), "chunk_size must be"),
    "attention chunk": (("a", "--attention-chunk-size", 0), "attention_chunk_size must be"),
    "tile": (("a", "--tile-size", 30), "tile_size 30 is not a multiple of 4, as this model needs: use 28 or 32"),
    "offload": (("a", "--offload", "disk"), "unknown offload 'disk': use none, model, sequential"),
    "memory": (("a", "--max-vram", "much"), "memory is given as in 8GB or 7.5GiB, got 'much'"),
    "too little memory": (("a", "--max-vram", "1MB"), "1 MB of memory are too little, the least that this takes is"),
    "videos": (("a", "--num-videos", 0), "num_videos must be"),
    "seed": (("a", "--seed", -1), "seed must be"),
    "extension": (("a", "-o", "x.avi"), "unknown format '.avi'; use .mp4, .webm, .mkv, .gif, .webp"),
    "folder": (("a", "-o", "none/x.mp4"), "the folder none does not exist"),
    "existing": (("a", "-o", "mine.mp4"), "mine.mp4 exists"),
    "existing record": (("a", "-o", "record.gif"), "record.json exists"),
    "width": (("a", "--width", 30), "width 30 is not a multiple of 4, as this model needs: use 28 or 32"),
    "height": (("a", "--height", 3), "height 3 is not a multiple of 4"),
    "sampler": (("a", "--sampler", "magic"), "unknown sampler 'magic'; known are ddpm, ddim, euler"),
    "spacing": (
        ("a", "--timestep-spacing", "even"),
        "unknown timestep_spacing 'even'; known are leading, trailing, lin",
    ),
    "too many steps": (("a", "--num-inference-steps", 1001), "num_inference_steps must be from 1 to 1000, got 1001"),
    "dtype": (("a", "--dtype", "int8"), "unknown dtype 'int8'"),
    "device": (("a", "--device", "gpu"), "unknown device 'gpu'"),
    "motion": (("a", "--motion", "none"), "no motion at none"),
    "prompt at": (("a", "--prompt-at", "a dog"), "--prompt-at must be FRAME:PROMPT, as in 12:"),
    "prompt at nothing": (("a", "--prompt-at", "2: "), "--prompt-at must be FRAME:PROMPT"),
    "prompt before": (("a", "--prompt-at=-1:b"), "--prompt-at must be FRAME:PROMPT"),
    "prompt after": (("a", "--prompt-at", "4:b"), "gives frame 4 a prompt, the video has frames 0 to 3"),
    "two prompts": (("a", "--prompt-at", "2:b", "--prompt-at", "2:c"), "gives frame 2 two prompts: 'b' and 'c'"),
    "two first prompts": (("a", "--prompt-at", "0:b"), "frame 0 has two prompts: 'a' and, by --prompt-at, 'b'"),
    "no first prompt": (("--prompt-at", "2:b"), "the prompt is empty"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_generate_refuses_bad_input_with_one_line(t2v_command, tiny_model, tmp_path, arguments, message):
    (tmp_path / "mine.mp4").write_text("mine")
    (tmp_path / "record.json").write_text("mine")
    check_refused(t2v_command("generate", *arguments, "--model", tiny_model), message, tmp_path)


def check_refused(done, message, folder):
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert done.out == ""
    assert not [path for path in tree(folder) if path.endswith((".mp4", ".webp", "outputs")) and path != "mine.mp4"]


def test_generate_refuses_a_rate_that_a_gif_cannot_hold_before_the_work(t2v_command, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(TextToVideoPipeline, "_make", None)
    done = t2v_command("generate", "a cat", "--model", tiny_model, "--fps", 60, "-o", "x.gif")
    check_refused(done, "a GIF shows at most 50 frames per second, got 60", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_generate_refuses_cuda_where_there_is_none(t2v_command, tiny_model, tmp_path):
    done = t2v_command("generate", "a", "--model", tiny_model, "--device", "cuda")
    check_refused(done, "torch finds no CUDA GPU here", tmp_path)


def test_generate_refuses_a_read_only_folder(t2v_command, tiny_model, tmp_path, monkeypatch):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    if os.geteuid() == 0:  # root may write everywhere: tell it that it may not
        allowed = os.access
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder and allowed(path, mode))
    check_refused(t2v_command("generate", "a", "-o", folder / "x.mp4"), "no permission to write in", tmp_path)


MODELS = {
    "unknown": (None, "no model at"),
    "empty folder": (lambda folder: [path.unlink() for path in files(folder)], "model_index.json is missing"),
    "no weights": (
        lambda folder: weights(folder, "unet").unlink(),
        "unet/diffusion_pytorch_model.safetensors is missing",
    ),
    "no vae": (lambda folder: (folder / "vae/config.json").unlink(), "vae/config.json is missing"),
    "no scheduler": (
        lambda folder: (folder / "scheduler/scheduler_config.json").unlink(),
        "scheduler/scheduler_config.json is missing",
    ),
    "no motion": (
        lambda folder: [path.unlink() for path in (folder / "motion").iterdir()] and (folder / "motion").rmdir(),
        "is an image model without motion: give its temporal weights with --motion PATH, or make them with `t2v train",
    ),
    "truncated": (lambda folder: truncate(weights(folder, "unet"), 0.6), "is truncated or not a safetensors file"),
    "header cut": (lambda folder: truncate(weights(folder, "vae"), 0.0001), "is truncated or not a safetensors file"),
    "corrupted": (lambda folder: weights(folder, "motion").write_bytes(b"\xff" * 4096), "is truncated or not a"),
    "pickle": (
        lambda folder: weights(folder, "unet").rename(folder / "unet/diffusion_pytorch_model.bin"),
        "pickle checkpoints can run code when opened and are refused",
    ),
    "settings": (
        lambda folder: (folder / "generation_config.json").write_text('{"steps": 3}'),
        "generation_config.json has the unknown setting 'steps'",
    ),
}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def weights(folder: Path, part: str) -> Path:
    return folder / part / "diffusion_pytorch_model.safetensors"


def truncate(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def test_generate_in_less_memory_makes_the_same_video(t2v_command, tiny_model):
    options = ("--model", tiny_model, "--dtype", "fp32")
    assert t2v_command("generate", PROMPT, *options, "-o", "plain").code == 0
    done = t2v_command("generate", PROMPT, *options, "--offload", "sequential", "-o", "offloaded")
    assert done.code == 0 and "--offload sequential saves nothing on a CPU" in done.err
    done = t2v_command("generate", "--from", "offloaded.json", "--attention-chunk-size", 2, "-o", "again")
    assert done.code == 0 and "--offload sequential" in done.err
    frames = [[path.read_bytes() for path in sorted(Path(name).iterdir())] for name in ("plain", "offloaded", "again")]
    assert frames[0] == frames[1] == frames[2]


def test_generate_tells_what_it_picks_for_a_given_memory(t2v_command, tiny_model):
    size = ("--model", tiny_model, "--num-frames", 16, "--dtype", "fp32", "--guidance-scale", 1, "-o")
    done = t2v_command("generate", PROMPT, "--max-vram", "8GB", *size, "x.mp4")
    assert done.code == 0 and "--max-vram 8GB: nothing to change, about 5" in done.err
    done = t2v_command("generate", PROMPT, "--max-vram", "525.7MB", *size, "y.mp4")
    assert done.code == 0 and "--max-vram 525.7MB: --chunk-size 4, about 526 MB" in done.err
    assert json.loads(Path("y.json").read_text())["settings"]["chunk_size"] == 4
    kept = t2v_command("generate", PROMPT, "--max-vram", "525.7MB", "--chunk-size", 8, *size, "z.mp4")
    assert kept.code == 2 and "too little" in kept.err, "what was asked for is not changed"


@pytest.mark.parametrize(("damage", "message"), MODELS.values(), ids=MODELS)
def test_generate_refuses_a_broken_model_with_one_line(t2v_command, tiny_model, tmp_path, damage, message):
    import shutil

    model = tmp_path / "model"
    if damage is not None:
        shutil.copytree(tiny_model, model)
        damage(model)
    check_refused(t2v_command("generate", "a cat", "--model", model), message, tmp_path)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_generate_refuses_a_pickle_file(t2v_command, tmp_path, suffix):
    torch.save({"a": torch.zeros(1)}, tmp_path / f"model{suffix}")
    done = t2v_command("generate", "a cat", "--model", tmp_path / f"model{suffix}")
    check_refused(done, "pickle checkpoints can run code when opened and are refused", tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_generate_out_of_memory_names_the_estimate_and_what_lowers_it(
    t2v_command, tiny_model, tmp_path, monkeypatch, error
):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr("t2v.pipelines.text_to_video.sample", fail)
    done = t2v_command("generate", "a cat", "--model", tiny_model)
    check_refused(done, "out of memory: this takes about", tmp_path)
    for option in ("--max-vram 8GB", "--offload model", "--chunk-size", "--attention-chunk-size", "--dtype bf16"):
        assert option in done.err


def test_generate_that_no_memory_could_hold_is_refused(t2v_command, tiny_model, tmp_path):
    done = t2v_command("generate", "a cat", "--model", tiny_model, "--num-frames", 10**12)
    assert done.code == 2
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["warning", "warning", "error"]
    assert "of memory, the device has" in done.err and "out of memory: this takes about" in done.err
    assert tree(tmp_path) == set()


def test_generate_lets_other_errors_through(t2v_command, tiny_model, monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("some tensors share memory")

    monkeypatch.setattr(TextToVideoPipeline, "_denoise", fail)
    with pytest.raises(RuntimeError, match="share memory"):
        t2v_command("generate", "a cat", "--model", tiny_model)


def test_generate_interrupted_leaves_no_broken_file(tiny_model, tmp_path):
    command = [sys.executable, "-m", "t2v", "generate", PROMPT, "--model", tiny_model, "--preview"]
    options = ["--num-inference-steps", "60", "--width", "128", "--height", "128", "--device", "cpu", "-o", "x.mp4"]
    process = subprocess.Popen(
        [*map(str, command), *options],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "x.preview.webp").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert tree(tmp_path) <= {"x.preview.webp"}


def test_generate_interrupted_while_writing_leaves_nothing(t2v_command, tiny_model, tmp_path, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    done = t2v_command("generate", PROMPT, "--model", tiny_model, "-o", "x.mp4")
    assert done.code == 130
    assert tree(tmp_path) == set()
