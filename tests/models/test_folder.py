import hashlib
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch

from t2v.errors import InputError
from t2v.models import folder as folder_module
from t2v.models.autoencoder import AutoencoderConfig, AutoencoderKL
from t2v.models.base import load_json
from t2v.models.conversion import convert
from t2v.models.folder import find_model, load_components, save_model_folder
from t2v.models.inflate import inflate, save_motion
from t2v.models.text_encoder import new_text_encoder, train_tokenizer
from t2v.models.unet import VideoUNet
from t2v.models.unet_config import MotionConfig, VideoUNetConfig
from t2v.models.vq_model import VQConfig, VQModel
from tests.peak_allocation import peak_allocation

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "steps_offset": 1,
}
UNET = VideoUNetConfig(
    sample_size=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(8, 16),
    layers_per_block=1,
    norm_num_groups=4,
    cross_attention_dim=16,
    attention_head_dim=2,
)


def make_parts(with_motion: bool):
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = VideoUNet(UNET)
    if with_motion:
        inflate(unet, MotionConfig(num_frames=4), generator)
    autoencoder = AutoencoderKL(AutoencoderConfig(block_out_channels=(8, 16), norm_num_groups=4))
    autoencoder.init_weights(generator)
    tokenizer = train_tokenizer(["a robot dancing in Times Square"] * 2, 540, 12)
    return unet.eval(), autoencoder.eval(), new_text_encoder(tokenizer, 16, 1, 2, generator).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model_folder(folder, *make_parts(True), SCHEDULER, vocabulary=["robot", "a", "a"])
    return folder


@pytest.fixture
def model(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    one, other = first.state_dict(), second.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_load_components_returns_what_was_saved(model):
    unet, autoencoder, text_encoder = make_parts(True)
    loaded = load_components(str(model))
    assert_same_weights(loaded.unet, unet)
    assert_same_weights(loaded.autoencoder, autoencoder)
    assert_same_weights(loaded.text_encoder, text_encoder)
    assert loaded.unet.motion == MotionConfig(num_frames=4)
    assert loaded.scheduler == loaded.motion_scheduler == SCHEDULER
    assert loaded.vocabulary == {"a", "robot"}
    assert loaded.name == str(model)
    assert loaded.path == model
    assert loaded.motion_path is None
    assert not any(part.training for part in (loaded.unet, loaded.autoencoder, loaded.text_encoder))


def test_load_components_in_another_dtype(model):
    loaded = load_components(str(model), dtype=torch.bfloat16)
    parts = (loaded.unet, loaded.autoencoder, loaded.text_encoder)
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.bfloat16}
    exact = load_components(str(model))
    for part, whole in zip(parts, (exact.unet, exact.autoencoder, exact.text_encoder), strict=True):
        assert_same_weights(part, whole.bfloat16())


@pytest.mark.parametrize("motion", ["own", "animatediff"])
def test_loading_holds_the_weights_once(tmp_path, motion):
    unet, autoencoder, text_encoder = make_parts(with_motion=motion == "own")
    save_model_folder(tmp_path, unet, autoencoder, text_encoder, SCHEDULER, dtype=torch.float16)
    if motion == "animatediff":
        diffusers = pytest.importorskip("diffusers")
        sizes = {"block_out_channels": (8, 16), "motion_layers_per_block": 1, "motion_num_attention_heads": 2}
        diffusers.MotionAdapter(**sizes, motion_norm_num_groups=4).half().save_pretrained(tmp_path / "motion")
    kept = []
    peak = peak_allocation(lambda: kept.append(load_components(str(tmp_path), dtype=torch.bfloat16)))
    parts = (kept[0].unet, kept[0].autoencoder, kept[0].text_encoder)
    num_parameters = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert peak < 3 * num_parameters, "two bytes for each, and no copy in four"


def test_load_components_without_motion_or_vocabulary(model):
    shutil.rmtree(model / "motion")
    (model / "vocabulary.json").unlink()
    loaded = load_components(str(model))
    assert loaded.unet.motion is None
    assert loaded.motion_scheduler is None
    assert loaded.vocabulary is None


@pytest.mark.parametrize("name", ["other", "other/diffusion_pytorch_model.safetensors"])
def test_load_components_with_the_motion_that_was_asked_for(model, tmp_path, name):
    unet, _, _ = make_parts(True)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 1
    save_motion(unet, tmp_path / "other")
    loaded = load_components(str(model), motion=str(tmp_path / name))
    own = load_components(str(model))
    changed = [
        name for name, value in loaded.unet.state_dict().items() if not torch.equal(value, own.unet.state_dict()[name])
    ]
    assert changed
    assert all("temporal" in name or "fps_embedding" in name for name in changed)
    assert loaded.motion_path == str(tmp_path / name)
    assert loaded.weights_hash != own.weights_hash


def test_weights_hash_is_of_the_weights_alone(model, tmp_path):
    first = load_components(str(model))
    files = ["text_encoder/model", *(f"{part}/diffusion_pytorch_model" for part in ("unet", "vae", "motion"))]
    digests = [hashlib.sha256((model / f"{name}.safetensors").read_bytes()).digest() for name in files]
    assert first.weights_hash == hashlib.sha256(b"".join(digests)).hexdigest()
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    (moved / "vocabulary.json").unlink()
    assert load_components(str(moved)).weights_hash == first.weights_hash


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "motion/config.json",
        "motion/diffusion_pytorch_model.safetensors",
    ],
)
def test_load_components_names_the_missing_file(model, file):
    (model / file).unlink()
    with pytest.raises(InputError) as error:
        load_components(str(model))
    assert f"{model / file} is missing" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "part", ["text_encoder/model", "unet/diffusion_pytorch_model", "motion/diffusion_pytorch_model"]
)
def test_load_components_names_the_truncated_file(model, part):
    file = model / f"{part}.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError) as error:
        load_components(str(model))
    assert f"{file} is truncated" in str(error.value)


def test_load_components_refuses_a_folder_of_pickles(model):
    (model / "unet" / "diffusion_pytorch_model.safetensors").rename(model / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.bin.*refused"):
        load_components(str(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "two text encoders"),
        ({"unet": ["diffusers", "UNetMotionModel"]}, "unet is UNetMotionModel, supported is"),
        (
            {"unet": ["diffusers", "UNet3DConditionModel"]},
            "unet is UNet3D.* in model_index.json, UNet2DConditionModel in",
        ),
        ({"vae": None}, "vae is None"),
        ({"vae": 5}, "vae is 5"),
        ({"vae": []}, r"vae is \[\]"),
    ],
)
def test_load_components_refuses_other_families(model, change, message):
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(InputError, match=message):
        load_components(str(model))


def test_a_codebook_comes_back_from_a_folder_and_from_a_single_file(tmp_path):
    unet, _, text_encoder = make_parts(False)
    config = VQConfig(block_out_channels=(8, 16), norm_num_groups=4, vq_embed_dim=4, num_vq_embeddings=9)
    quantised = VQModel(config).eval()
    save_model_folder(tmp_path / "model", unet, quantised, text_encoder, SCHEDULER)
    convert(tmp_path / "model", tmp_path / "model.safetensors")
    convert(tmp_path / "model.safetensors", tmp_path / "again", tokenizer=str(tmp_path / "model"))
    for name in ("model", "again"):
        autoencoder = load_components(str(tmp_path / name)).autoencoder
        assert isinstance(autoencoder, VQModel) and autoencoder.config == config
        assert_same_weights(autoencoder, quantised)
        assert load_json(tmp_path / name / "model_index.json")["vae"] == ["diffusers", "VQModel"]


def test_load_components_refuses_an_autoencoder_of_another_class_than_the_index_says(model):
    VQModel(VQConfig(block_out_channels=(8, 16), norm_num_groups=4)).save_pretrained(model / "vae")
    with pytest.raises(InputError, match=r"vae is AutoencoderKL in model_index\.json, VQModel in its config\.json"):
        load_components(str(model))


@pytest.mark.parametrize(("text", "message"), [("[", "not valid JSON"), ("{}", "expected a list")])
def test_load_components_refuses_a_broken_vocabulary(model, text, message):
    (model / "vocabulary.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_components(str(model))


def test_load_components_refuses_parts_of_different_models(model):
    wide = AutoencoderKL(AutoencoderConfig(block_out_channels=(8,), norm_num_groups=4, latent_channels=5))
    wide.save_pretrained(model / "vae")
    with pytest.raises(InputError, match="takes 4 latent channels, vae/ makes 5"):
        load_components(str(model))
    wide = make_parts(False)[1]
    wide.save_pretrained(model / "vae")
    tokenizer = train_tokenizer(["a"], 520, 12)
    new_text_encoder(tokenizer, 8, 1, 2, torch.Generator().manual_seed(0)).save_pretrained(model)
    with pytest.raises(InputError, match="takes text 16 wide, text_encoder/ gives 8"):
        load_components(str(model))


def test_load_components_refuses_an_unknown_motion(model):
    with pytest.raises(InputError, match="no motion at nowhere"):
        load_components(str(model), motion="nowhere")
    with pytest.raises(InputError, match="refused"):
        (model / "motion.ckpt").touch()
        load_components(str(model), motion=str(model / "motion.ckpt"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no model at nowhere: give mini"),
        ("/nowhere/at/all", "no model at /nowhere/at/all"),
        ("", "no model at : give mini"),
        ("v1-5-pruned.ckpt", "pickle checkpoints"),
        ("v1-5-pruned.safetensors", "no model at v1-5-pruned.safetensors: give mini"),
    ],
)
def test_find_model_refuses(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        find_model(name)


def test_find_model_refuses_a_file(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="no model at"):
        find_model(str(tmp_path / "notes.txt"))


def test_find_model_mini_is_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").mkdir()
    assert find_model("mini") == Path(folder_module.__file__).parents[1] / "zoo" / "mini"


def fake_hub(remote: Path, local: Path, downloaded: list[str]):
    """snapshot_download that copies the files of `remote` that the patterns allow."""
    from huggingface_hub.utils import filter_repo_objects

    def snapshot_download(name, allow_patterns):
        assert name == "someone/model"
        names = [str(file.relative_to(remote)) for file in remote.rglob("*") if file.is_file()]
        for file in filter_repo_objects(names, allow_patterns=allow_patterns):
            (local / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(remote / file, local / file)
            downloaded.append(file)
        return str(local)

    return snapshot_download


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_hub_models_are_downloaded_as_safetensors_alone(model, tmp_path, monkeypatch, variant):
    for part in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        (model / f"{part}.safetensors").rename(model / f"{part}{variant}.safetensors")
    unwanted = ["v1.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/model.bin", "vae/x.ckpt"]
    unwanted += ["vae/diffusion_pytorch_model.fp16.safetensors", "unet/code.py", "safety_checker/config.json"]
    wanted = ["generation_config.json", "interpolation/config.json", "interpolation/x.safetensors"]
    for name in unwanted + wanted:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).touch()
    downloaded: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake_hub(model, tmp_path / "local", downloaded))
    loaded = load_components("someone/model")
    assert loaded.name == "someone/model"
    assert loaded.unet.motion is not None
    assert loaded.vocabulary is not None
    assert not set(unwanted) & set(downloaded)
    assert set(wanted) < set(downloaded)


def test_a_revision_of_a_hub_model_can_be_named(model, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns, revision=None):
        asked.append((name, revision))
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    shutil.copytree(model / "motion", tmp_path / "motion")
    load_components("someone/model@1a2b3c", tokenizer="someone/words", motion=str(tmp_path / "motion"))
    assert set(asked) == {("someone/model", "1a2b3c"), ("someone/words", None)}


@pytest.fixture
def cache(saved, tmp_path, monkeypatch) -> Path:
    """The hub client's cache with someone/model: revision v1 as saved, the newest without motion; no way out."""
    cache = tmp_path / "hub"
    repository = cache / "models--someone--model"
    for revision, commit in (("v1", "1" * 40), ("main", "2" * 40)):
        shutil.copytree(saved, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    shutil.rmtree(repository / "snapshots" / ("2" * 40) / "motion")

    def connect(*_arguments, **_options):
        raise AssertionError("something was sent")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return cache


@pytest.mark.parametrize(("revision", "has_motion"), [("", False), ("@v1", True), (f"@{'1' * 40}", True)])
def test_offline_takes_a_revision_from_the_cache(cache, revision, has_motion):
    loaded = load_components(f"someone/model{revision}")
    assert loaded.path.is_relative_to(cache)
    assert (loaded.unet.motion is not None) == has_motion


@pytest.mark.parametrize("name", ["someone/other", "someone/model@v2"])
def test_offline_says_what_is_not_in_the_cache(cache, name):
    with pytest.raises(InputError, match=f"^{name} is no folder here and not in the hub's cache") as error:
        load_components(name)
    assert "\n" not in str(error.value)


def test_hub_failure_is_one_line(monkeypatch):
    def snapshot_download(name, allow_patterns):
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(InputError) as error:
        load_components("someone/model")
    message = str(error.value)
    assert "someone/model" in message
    assert "(no route to host)" in message
    assert "\n" not in message


def test_a_folder_comes_before_the_hub(model, monkeypatch):
    monkeypatch.chdir(model.parent.parent)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    name = f"{model.parent.name}/{model.name}"
    assert load_components(name).name == str(model)


@torch.no_grad()
def test_diffusers_opens_what_we_save_and_makes_our_picture(saved):
    diffusers = pytest.importorskip("diffusers")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(saved)
    loaded = load_components(str(saved))
    assert isinstance(pipe.scheduler, diffusers.DDIMScheduler)
    assert pipe.safety_checker is None

    prompt = "a robot dancing"
    embeds, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
    own_embeds = loaded.text_encoder.encode([prompt])
    torch.testing.assert_close(own_embeds, embeds, atol=1e-5, rtol=1e-5)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = pipe.unet(latents, 500, embeds).sample
    output = loaded.unet(latents, torch.tensor([500]), own_embeds)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        loaded.autoencoder.decode(output), pipe.vae.decode(expected).sample, atol=1e-4, rtol=1e-4
    )

    picture = pipe(prompt, latents=latents, num_inference_steps=2, guidance_scale=1.0, output_type="pt").images
    assert picture.shape == (1, 3, 16, 16)
