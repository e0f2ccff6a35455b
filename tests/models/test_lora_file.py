import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v.errors import InputError
from t2v.models.folder import load_components
from t2v.models.ldm_names import rename_module, unet_modules
from t2v.models.lora_file import parse_lora, read_lora
from tests.models.peers import PROMPT, relative

diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
RANK = 4
UNET_LAYERS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv_shortcut",
    "downsamplers.0.conv",
    "time_emb_proj",
)
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(params=["sd1", "sd2"])
def folder(request) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


def make_factors(module: torch.nn.Module, layers: tuple[str, ...]) -> Factors:
    """A random down and up matrix for every layer whose name ends so."""
    generator = torch.Generator().manual_seed(0)
    factors = {}
    for name, layer in module.named_modules():
        if any(f".{name}".endswith(f".{end}") for end in layers):
            weight = layer.weight
            shapes = (RANK, *weight.shape[1:]), (len(weight), RANK, *[1] * (weight.ndim - 2))
            factors[name] = tuple(0.2 * torch.randn(shape, generator=generator) for shape in shapes)
    return factors


def kohya(unet: Factors, text: Factors, alpha: float) -> dict[str, torch.Tensor]:
    """Keys of kohya's trainer."""
    weights = {}
    for network, factors in (("unet", unet), ("te_text_model", text)):
        for name, (down, up) in factors.items():
            module = f"lora_{network}_{name.replace('.', '_')}"
            weights |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
            weights[f"{module}.alpha"] = torch.tensor(alpha)
    return weights


def peft_keys(unet: Factors, text: Factors) -> dict[str, torch.Tensor]:
    """Keys of peft and today's diffusers."""
    weights = {}
    for network, factors in (("unet", unet), ("text_encoder.text_model", text)):
        for name, (down, up) in factors.items():
            weights |= {f"{network}.{name}.lora_A.weight": down, f"{network}.{name}.lora_B.weight": up}
    return weights


def plain_factors(folder: Path) -> tuple[Factors, Factors]:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    text = make_factors(pipe.text_encoder, TEXT_LAYERS)
    return make_factors(pipe.unet, UNET_LAYERS), {name.removeprefix("text_model."): pair for name, pair in text.items()}


@torch.no_grad()
def assert_equal_to_diffusers(folder: Path, files: dict[Path, float]) -> None:
    """Prompt embeddings and noise predictions, with the LoRAs and against those without."""
    peer = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before, _ = peer.encode_prompt(PROMPT, "cpu", 1, False)
    plain = peer.unet(latents, 500, before).sample
    for index, path in enumerate(files):
        peer.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"a{index}")
    peer.set_adapters([f"a{index}" for index in range(len(files))], list(files.values()))
    embeds, _ = peer.encode_prompt(PROMPT, "cpu", 1, False)
    expected = peer.unet(latents, 500, embeds).sample
    loaded = load_components(str(folder), loras=[f"{path}:{weight}" for path, weight in files.items()])
    own = loaded.text_encoder.encode([PROMPT])
    assert relative(own, embeds) < 1e-5
    assert relative(loaded.unet(latents, 500, own), expected) < 1e-5
    assert relative(before, embeds) > 0.01 and relative(plain, expected) > 0.01


@pytest.mark.parametrize("alpha", [4.0, 1.0])
def test_kohya_files_change_what_they_change_in_diffusers(folder, tmp_path, alpha):
    save_file(kohya(*plain_factors(folder), alpha), tmp_path / "kohya.safetensors")
    assert_equal_to_diffusers(folder, {tmp_path / "kohya.safetensors": 0.8})


def test_several_files_add_up_with_their_weights(sd1_folder, tmp_path):
    unet, text = plain_factors(sd1_folder)
    save_file(kohya(unet, text, 2.0), tmp_path / "one.safetensors")
    half = {name: (up.new_ones(down.shape) * 0.01, up) for name, (down, up) in list(unet.items())[::2]}
    save_file(peft_keys(half, text), tmp_path / "two.safetensors")
    assert_equal_to_diffusers(sd1_folder, {tmp_path / "one.safetensors": 0.7, tmp_path / "two.safetensors": -0.4})


@pytest.mark.parametrize("settings", [{}, {"alpha_pattern": {"attn2.to_k": 9.0}}, {"use_rslora": True}], ids=str)
def test_files_saved_by_diffusers_with_their_alpha(sd1_folder, tmp_path, settings):
    peer = diffusers.StableDiffusionPipeline.from_pretrained(sd1_folder)
    networks = {"unet": (peer.unet, UNET_LAYERS), "text_encoder": (peer.text_encoder, TEXT_LAYERS)}
    layers, metadata = {}, {}
    for name, (network, targets) in networks.items():
        own = settings if name == "unet" else {}
        config = peft.LoraConfig(r=RANK, lora_alpha=2.0, target_modules=list(targets), init_lora_weights=False, **own)
        torch.manual_seed(0)
        network.add_adapter(config)
        layers[name] = peft.get_peft_model_state_dict(network)
        metadata[name] = diffusers.training_utils._collate_lora_metadata({name: network})[
            f"{name}_lora_adapter_metadata"
        ]
    peer.save_lora_weights(
        tmp_path,
        unet_lora_layers=layers["unet"],
        text_encoder_lora_layers=layers["text_encoder"],
        unet_lora_adapter_metadata=metadata["unet"],
        text_encoder_lora_adapter_metadata=metadata["text_encoder"],
    )
    assert_equal_to_diffusers(sd1_folder, {tmp_path / "pytorch_lora_weights.safetensors": 1.0})


@pytest.fixture(scope="module")
def attention(sd1_folder) -> Factors:
    """Factors of the U-Net's attention projections alone, without kernels."""
    return {name: pair for name, pair in plain_factors(sd1_folder)[0].items() if ".attn" in name}


def merged(folder: Path, path: Path) -> dict[str, torch.Tensor]:
    return load_components(str(folder), loras=[str(path)]).unet.state_dict()


def test_other_spellings_mean_the_same(sd1_folder, tmp_path, attention):
    save_file(peft_keys(attention, {}), tmp_path / "peft.safetensors")
    expected = merged(sd1_folder, tmp_path / "peft.safetensors")
    config = load_components(str(sd1_folder)).unet.config
    old, plain, bare, ldm = {}, {}, {}, {}
    for name, (down, up) in attention.items():
        layer = name.removesuffix(".0")
        block, projection = layer.rsplit(".", 1)
        old |= {
            f"unet.{block}.processor.{projection}_lora.{side}.weight": w for side, w in (("down", down), ("up", up))
        }
        plain |= {f"unet.{name}.lora.{side}.weight": w for side, w in (("down", down), ("up", up))}
        bare |= {f"base_model.model.{name}.lora_{side}.default.weight": w for side, w in (("A", down), ("B", up))}
        module = "lora_unet_" + rename_module(name, unet_modules(config)).replace(".", "_")
        ldm |= {f"{module}.lora_{side}.weight": w for side, w in (("down", down), ("up", up))}
    for weights in (old, plain, bare, ldm):
        save_file(weights, tmp_path / "other.safetensors")
        got = merged(sd1_folder, tmp_path / "other.safetensors")
        assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_the_alpha_of_a_peft_folder(sd1_folder, tmp_path, attention):
    weights = {name.replace("unet.", "base_model.model."): w for name, w in peft_keys(attention, {}).items()}
    save_file(weights, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2 * RANK, "r": RANK}))
    doubled = {name: (2 * down, up) for name, (down, up) in attention.items()}
    save_file(peft_keys(doubled, {}), tmp_path / "doubled.safetensors")
    got, expected = (merged(sd1_folder, tmp_path / f"{name}.safetensors") for name in ("adapter_model", "doubled"))
    assert all(torch.allclose(got[name], tensor, atol=1e-6) for name, tensor in expected.items())
    (tmp_path / "adapter_config.json").write_text("[")
    with pytest.raises(InputError, match="settings beside its weights are broken"):
        merged(sd1_folder, tmp_path / "adapter_model.safetensors")


def test_what_is_not_in_the_model_is_reported(sd1_folder, tmp_path, attention):
    unknown = {"down_blocks.9.attentions.0.to_q": (torch.zeros(1, 1), torch.zeros(1, 1))}
    save_file(kohya({**attention, **unknown}, {}, 1.0), tmp_path / "a.safetensors")
    loaded = load_components(str(sd1_folder), loras=[f"{tmp_path / 'a.safetensors'}:0.5"])
    merged_note, left_out = loaded.notes
    assert merged_note == f"a.safetensors: merged into {len(attention)} layers with weight 0.5"
    assert f"1 of {len(attention) + 1} layers are not in this model" in left_out
    assert "lora_unet_down_blocks_9_attentions_0_to_q" in left_out
    assert loaded.loras == (f"{tmp_path / 'a.safetensors'}:0.5",)
    assert loaded.weight_files[-1] == tmp_path / "a.safetensors"


def drop_up(weights):
    return {name: tensor for name, tensor in weights.items() if "lora_up" not in name}


def other_shape(weights):
    return {name: tensor[:, :-1].contiguous() if "lora_down" in name else tensor for name, tensor in weights.items()}


def other_model(weights):
    return {name.replace("blocks", "levels"): tensor for name, tensor in weights.items()}


def second_encoder(weights):
    return {**weights, "lora_te2_text_model_x.lora_down.weight": torch.zeros(1, 1)}


def dora(weights):
    return {**weights, "lora_unet_x.dora_scale": torch.zeros(1)}


def loha(weights):
    return {"lora_unet_x.hada_w1_a": torch.zeros(1)}


def no_lora(weights):
    return {"conv_in.weight": torch.zeros(1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_up, "does not fit this U-Net or text encoder"),
        (other_shape, "does not fit this U-Net or text encoder"),
        (other_model, "is of another model"),
        (second_encoder, r"two text encoders \(SDXL\)"),
        (dora, "is DoRA"),
        (loha, "is LoHa"),
        (no_lora, "no tensor named"),
    ],
)
def test_what_cannot_be_merged_is_one_line_and_changes_nothing(sd1_folder, tmp_path, attention, change, message):
    save_file(change(kohya(attention, {}, 1.0)), tmp_path / "a.safetensors")
    loaded = load_components(str(sd1_folder))
    before = copy.deepcopy(loaded.unet.state_dict())
    with pytest.raises(InputError, match=message) as error:
        read_lora(tmp_path / "a.safetensors", loaded.unet, loaded.text_encoder)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.unet.state_dict().items())


def test_parse_lora():
    assert parse_lora("a.safetensors") == ("a.safetensors", 1.0)
    assert parse_lora("a:b.safetensors:-0.5") == ("a:b.safetensors", -0.5)
    assert parse_lora(r"C:\a.safetensors") == (r"C:\a.safetensors", 1.0)
    for text in (":0.5", "a.safetensors:nan", "a.safetensors:inf"):
        with pytest.raises(InputError, match="FILE:WEIGHT"):
            parse_lora(text)


def test_a_merge_in_half_precision_is_made_before_rounding(sd1_folder, tmp_path, attention):
    save_file(peft_keys(attention, {}), tmp_path / "a.safetensors")
    expected = merged(sd1_folder, tmp_path / "a.safetensors")
    got = load_components(str(sd1_folder), dtype=torch.float16, loras=[str(tmp_path / "a.safetensors")])
    assert all(torch.equal(got.unet.state_dict()[name], tensor.half()) for name, tensor in expected.items())
    assert load_file(tmp_path / "a.safetensors").keys() == peft_keys(attention, {}).keys()
