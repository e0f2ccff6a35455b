"""Checkpoints that are wrong, cut, mixed or hostile, given to every option that takes one: one line, exit code 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v.models.conversion import convert
from tests.models.test_animatediff import make_adapter

pytest.importorskip("diffusers")
Write = Callable[[Path], None]
HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
FILE = "bad.safetensors"
TRAIN = ("train", "temporal", "--data", "videos", "device=cpu", "trackers=[]")


def raw(content: bytes) -> Write:
    return lambda path: path.write_bytes(content) and None


def tensors(*names: str, metadata: dict[str, str] | None = None) -> Write:
    return lambda path: save_file({name: torch.zeros(2, 2) for name in names}, path, metadata)


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("victim"),)


def pickled(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1), "b": Malicious()}}, path)


# Every kind of broken header is in tests/models/test_base.py; here, that every option goes that way.
HOSTILE: dict[str, Write] = {
    "endless header": raw((2**63).to_bytes(8, "little") + HEADER),
    "pickle": pickled,
    "unknown": tensors("a"),
}
# The command, with the bad file in it, and the name that it has there.
LOADERS: dict[str, tuple[object, ...]] = {
    "generate --model": ("generate", "a cat", "--model", FILE),
    "generate --motion": ("generate", "a cat", "--model", "SD1", "--motion", FILE),
    "generate --lora": ("generate", "a cat", "--model", "SD1", "--motion", "adapter", "--lora", FILE),
    "generate --tokenizer": ("generate", "a cat", "--model", "sd1.safetensors", "--tokenizer", FILE),
    "info --motion": ("info", "SD1", "--motion", FILE),
    "inflate": ("inflate", FILE, "-o", "out"),
    "interpolate": ("interpolate", "a.png", "b.png", "--model", "SD1", "--interpolation", FILE, "-o", "o.mp4"),
    "convert to a folder": ("convert", FILE, "out"),
    "convert --motion": ("convert", "SD1", "out", "--motion", FILE),
    "train --model": (*TRAIN, "--model", FILE),
    "train init_from": (*TRAIN, "--model", "SD1", f"init_from={FILE}"),
    "train further": (*TRAIN, "--model", "SD1", f"init_from={FILE}", "model.temporal.layout=animatediff"),
    "train motion_lora": (*TRAIN, "--model", "SD1", f"model.motion={FILE}", "model.train=motion_lora"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, sd1_folder: Path) -> Path:
    """What the commands also need."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("bad")
    make_adapter("v3").save_pretrained(folder / "adapter")
    convert(sd1_folder, folder / "sd1.safetensors")
    (folder / "videos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32)).save(folder / name)
    return folder


@pytest.fixture
def refused(t2v_command: Any, place: Path, sd1_folder: Path, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail: its one line. Nothing may be left behind, but for the folder of a run."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)

    def run(*arguments: object) -> str:
        before = set(tmp_path.rglob("*"))
        done = t2v_command(*(sd1_folder if argument == "SD1" else argument for argument in arguments))
        assert done.code == 2, (done.code, done.err)
        lines = [line for line in done.err.splitlines() if not line.startswith("note")]
        assert len(lines) == 1 and "Traceback" not in done.err, done.err
        left = {path for path in tmp_path.rglob("*") if "runs" not in path.relative_to(tmp_path).parts}
        assert left == before
        return lines[0]

    return run


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_loader_takes_a_hostile_file(kind: str, loader: str, refused: Callable[..., str], tmp_path: Path) -> None:
    HOSTILE[kind](tmp_path / FILE)
    print(kind, loader, refused(*LOADERS[loader]))


# ---------------------------------------------------------------- folders


def elsewhere(folder: Path, stem: str = "diffusion_pytorch_model") -> None:
    """Weights that an index takes from the folder above."""
    weights = folder / f"{stem}.safetensors"
    weights.rename(folder.parent / "x.safetensors")
    index = {"weight_map": dict.fromkeys(load_file(folder.parent / "x.safetensors"), "../x.safetensors")}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("command", [("generate", "a cat", "--model"), ("info",), ("convert",)], ids=str)
def test_no_index_of_a_model_leads_out_of_its_folder(
    part: str, command: tuple[str, ...], refused: Callable[..., str], tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, "model")
    elsewhere(Path("model", part), "model" if part == "text_encoder" else "diffusion_pytorch_model")
    target = ("out",) if command[0] == "convert" else ()
    assert "names '../x.safetensors', expected safetensors files beside it" in refused(*command, "model", *target)


@pytest.mark.parametrize(
    "loader", [name for name in LOADERS if "motion" in name or name in ("train init_from", "train further")]
)
@pytest.mark.parametrize("kind", ["own", "adapter"])
def test_no_index_of_a_motion_leads_out_of_its_folder(
    kind: str, loader: str, refused: Callable[..., str], tiny_model: Path
) -> None:
    if (kind, loader) == ("own", "convert --motion"):
        pytest.skip("own motion is not read: only the image model is written")
    shutil.copytree("adapter" if kind == "adapter" else tiny_model / "motion", "bad")
    elsewhere(Path("bad"))
    arguments = [str(argument).replace(FILE, "bad") for argument in LOADERS[loader]]
    line = refused(*arguments)
    assert "names '../x.safetensors'" in line or "init_from: bad is" in line, line


def test_no_index_of_an_interpolation_leads_out_of_its_folder(refused: Callable[..., str], tiny_model: Path) -> None:
    shutil.copytree(tiny_model / "motion", "bad")
    config = json.loads(Path("bad/config.json").read_text())
    Path("bad/config.json").write_text(json.dumps({"_class_name": "Interpolation", "motion": config}))
    elsewhere(Path("bad"))
    arguments = ("interpolate", "a.png", "b.png", "--model", tiny_model, "--interpolation", "bad", "-o", "o.mp4")
    assert "../x.safetensors" in refused(*arguments)
    change_json(Path("bad/config.json"), motion=[1])
    assert "motion config: it is [1], expected keys and values" in refused(*arguments)


# ---------------------------------------------------------------- wrong base, mixed, hostile words


def change_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], Any], **header: str) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path, header or None)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


ADAPTER = "adapter/diffusion_pytorch_model.safetensors"
MOTION = ("generate", "a cat", "--model", "SD1", "--motion")
MODEL = ("generate", "a cat", "--motion", "adapter", "--model")


def xl_lora(path: Path) -> None:
    tensors("lora_unet_down_blocks_1_attentions_0_x.lora_down.weight", "lora_te2_x.lora_down.weight")(path)


def xl_unet(path: Path) -> None:
    change_json(Path("model/unet/config.json"), addition_embed_type="text_time", cross_attention_dim=2048)


WRONG: dict[str, tuple[Callable[[Path], Any], tuple[object, ...], str]] = {
    "SDXL file": (
        tensors("conditioner.embedders.0.x", "model.diffusion_model.input_blocks.0.0.weight"),
        (*MODEL, FILE),
        "Stable Diffusion XL",
    ),
    "SDXL LoRA": (xl_lora, (*MOTION, "adapter", "--lora", FILE), "SDXL"),
    "SDXL folder": (
        lambda path: change_json(Path("model/model_index.json"), text_encoder_2=["transformers", "X"]),
        (*MODEL, "model"),
        "two text encoders",
    ),
    "SDXL U-Net": (xl_unet, (*MODEL, "model"), "supported is"),
    "LoRA as motion": (xl_lora, (*MOTION, FILE), "motion"),
    "LoRA as model": (xl_lora, (*MODEL, FILE), "give it with --lora"),
    "modules as model": (lambda path: shutil.copy(ADAPTER, path), (*MODEL, FILE), "give it with --motion"),
    "modules as LoRA": (lambda path: shutil.copy(ADAPTER, path), (*MOTION, "adapter", "--lora", FILE), "LoRA"),
    "v1 config, v3 tables": (
        lambda path: change_json(Path("adapter/config.json"), motion_max_seq_length=24),
        (*MOTION, "adapter"),
        "24",
    ),
    "v2 config, v3 modules": (
        lambda path: change_json(Path("adapter/config.json"), use_motion_mid_block=True),
        (*MOTION, "adapter"),
        "is missing",
    ),
    "tables of v1 and v3": (
        lambda path: change_tensors(
            Path(ADAPTER),
            lambda weights: weights.update(
                {n: w[:, :24].clone() for n, w in weights.items() if n.endswith(".pe") and n.startswith("up_")}
            ),
        ),
        (*MOTION, ADAPTER),
        "24",
    ),
    "modules of v2, middle cut": (
        lambda path: change_tensors(
            Path(ADAPTER), lambda weights: weights.update({"mid_block.motion_modules.0.norm.weight": torch.ones(64)})
        ),
        (*MOTION, ADAPTER),
        "is missing",
    ),
    "U-Net 1, text 2": (
        lambda path: change_tensors(
            Path("sd1.safetensors"),
            lambda weights: [
                weights.pop(name) for name in list(weights) if name.startswith("cond_stage_model.transformer")
            ],
        ),
        ("convert", "sd1.safetensors", "out", "--tokenizer", "SD1"),
        "sd1.safetensors",
    ),
    "one tensor cut": (
        lambda path: change_tensors(
            Path("sd1.safetensors"), lambda weights: weights.pop("model.diffusion_model.out.2.weight")
        ),
        ("convert", "sd1.safetensors", "out", "--tokenizer", "SD1"),
        "out.2.weight is missing",
    ),
    "one tensor cut from a folder": (
        lambda path: change_tensors(
            Path("model/vae/diffusion_pytorch_model.safetensors"), lambda weights: weights.pop("decoder.conv_out.bias")
        ),
        ("convert", "model", "out.safetensors"),
        "decoder.conv_out.bias is missing",
    ),
    "facts no object": (
        lambda path: change_tensors(Path(ADAPTER), len, t2v_motion="[1]"),
        (*MOTION, "adapter"),
        "header",
    ),
    "facts of other types": (
        lambda path: change_tensors(Path(ADAPTER), len, t2v_motion='{"num_frames": -3}'),
        (*MOTION, "adapter"),
        "num_frames in its header is -3",
    ),
    "facts of another noise": (
        lambda path: change_tensors(Path(ADAPTER), len, t2v_motion='{"noise_prior": "pink"}'),
        (*MOTION, "adapter"),
        "noise_prior must be one of mixed, progressive, got 'pink'",
    ),
    "scheduler of another type": (
        lambda path: change_tensors(Path(ADAPTER), len, t2v_motion='{"scheduler": 3}'),
        (*MOTION, "adapter"),
        "t2v_motion in its header is broken",
    ),
    "motion config no JSON": (tensors("a", metadata={"config": "[1"}), (*MOTION, FILE), "motion config in its header"),
    "motion config no object": (
        tensors("a", metadata={"config": "[1]"}),
        (*MOTION, FILE),
        "motion config in its header",
    ),
    "a billion blocks": (
        lambda path: change_json(Path("adapter/config.json"), motion_transformer_layers_per_block=10**9),
        (*MOTION, "adapter"),
        "motion_transformer_layers_per_block",
    ),
    "widths no list": (
        lambda path: change_json(Path("adapter/config.json"), block_out_channels="../x"),
        (*MOTION, "adapter"),
        "block_out_channels",
    ),
    "a billion layers": (
        lambda path: change_json(Path("model/unet/config.json"), layers_per_block=10**9),
        (*MODEL, "model"),
        "layers_per_block",
    ),
    "widths no numbers": (
        lambda path: change_json(Path("model/unet/config.json"), block_out_channels=["a", None]),
        (*MODEL, "model"),
        "block_out_channels",
    ),
    "text encoder no numbers": (
        lambda path: change_json(Path("model/text_encoder/config.json"), hidden_size="x"),
        (*MODEL, "model"),
        "hidden_size",
    ),
    "autoencoder no numbers": (
        lambda path: change_json(Path("model/vae/config.json"), block_out_channels={"a": 1}),
        (*MODEL, "model"),
        "block_out_channels",
    ),
    "scheduler no numbers": (
        lambda path: change_json(Path("model/scheduler/scheduler_config.json"), beta_start="x"),
        ("info", "model"),
        "beta_start",
    ),
    "LoRA settings no object": (
        lambda path: tensors("unet.x.lora_A.weight", metadata={"lora_adapter_metadata": "[[1]]"})(path),
        (*MOTION, "adapter", "--lora", FILE),
        "settings beside its weights",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_belong_together_is_one_line(
    kind: str, refused: Callable[..., str], sd1_folder: Path, tmp_path: Path
) -> None:
    write, arguments, message = WRONG[kind]
    shutil.copytree(sd1_folder, "model")
    write(tmp_path / FILE)
    line = refused(*arguments)
    print(kind, line)
    assert message in line, line
