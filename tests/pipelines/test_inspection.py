import json
import shutil

import pytest

import t2v
from t2v.errors import InputError
from t2v.models.base import load_json, save_json
from t2v.models.inflate import is_temporal
from t2v.models.vq_model import VQConfig, VQModel
from t2v.pipelines.inspection import inspect_model


def test_inspect_model_counts_what_is_loaded(tiny_model):
    found = inspect_model(str(tiny_model))
    pipe = t2v.load(str(tiny_model), device="cpu", dtype="fp32")
    counts = {part.name: part.num_parameters for part in found.parts}
    unet = {name: parameter.numel() for name, parameter in pipe.unet.named_parameters()}
    temporal = sum(count for name, count in unet.items() if is_temporal(name))
    assert counts == {
        "text_encoder": sum(parameter.numel() for parameter in pipe.text_encoder.parameters()),
        "unet": sum(unet.values()) - temporal,
        "vae": sum(parameter.numel() for parameter in pipe.autoencoder.parameters()),
        "motion": temporal,
    }
    assert found.temporal_share == temporal / sum(unet.values())
    assert found.settings == pipe.defaults
    assert max(found.memory["none"].weights) == found.num_parameters * (2 if found.dtype in ("fp16", "bf16") else 4)
    assert found.warnings == ()


def test_inspect_model_describes_an_image_model(tiny_image_model, tiny_model):
    found = inspect_model(str(tiny_image_model))
    assert found.motion is None and found.temporal_share == 0
    with_motion = inspect_model(str(tiny_image_model), motion=str(tiny_model / "motion"))
    assert with_motion.temporal_share == inspect_model(str(tiny_model)).temporal_share > 0


def test_inspect_model_is_plain_json(tiny_model):
    values = json.loads(json.dumps(inspect_model(str(tiny_model)).to_dict()))
    totals = [values["memory"][level]["total"] for level in ("none", "model", "sequential")]
    assert totals == sorted(totals, reverse=True) and totals[0] > totals[2]
    assert totals[0] > values["memory"]["none"]["decode"]
    assert values["schedule"]["beta_schedule"] == "scaled_linear"


def test_inspect_model_estimates_more_memory_for_more_frames(tiny_model):
    small, large = (
        inspect_model(str(tiny_model), options={"num_frames": count, "width": 512, "height": 512}).memory["none"]
        for count in (16, 64)
    )
    assert large.denoise == 4 * small.denoise and large.total > small.total
    assert large.decode == small.decode, "frames are decoded in chunks"


def test_inspect_model_warns_of_another_scheduler_and_length(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = model / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.02"))
    length, scheduler = inspect_model(str(model), options={"num_frames": 5}).warnings
    assert "trained on 4" in length
    assert "beta_end 0.02 instead of 0.012" in scheduler


@pytest.mark.parametrize("part", ["text_encoder/model", "motion/diffusion_pytorch_model"])
def test_inspect_model_notices_a_file_that_ends_early(tiny_model, tmp_path, part):
    file = shutil.copytree(tiny_model, tmp_path / "model") / f"{part}.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{part}.safetensors is truncated"):
        inspect_model(str(tmp_path / "model"))


@pytest.mark.parametrize("content", [b"", b"\x10", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"\x04\0\0\0\0\0\0\0null"])
def test_inspect_model_refuses_a_broken_file(tiny_model, tmp_path, content):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="is truncated or not a safetensors file"):
        inspect_model(str(model))


def test_inspect_model_refuses_sizes_between_latents(tiny_model):
    with pytest.raises(InputError, match="width 30 is not a multiple of 4"):
        inspect_model(str(tiny_model), options={"width": 30})


def test_inspect_model_reads_a_codebook(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    autoencoder = VQModel(VQConfig(block_out_channels=(8, 8, 8), norm_num_groups=4, vq_embed_dim=4))
    autoencoder.save_pretrained(model / "vae")
    index = load_json(model / "model_index.json")
    save_json(model / "model_index.json", index | {"vae": ["diffusers", "VQModel"]})
    counts = {part.name: part.num_parameters for part in inspect_model(str(model)).parts}
    assert counts["vae"] == sum(parameter.numel() for parameter in autoencoder.parameters())
    video = t2v.load(str(model), device="cpu", dtype="fp32")("a robot dancing", num_inference_steps=1)
    assert video.frames.shape == (4, 32, 32, 3)
