import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from t2v.errors import InputError
from t2v.models.base import load_header, load_state_dict, save_state_dict
from t2v.models.checkpoint import STEMS, read_folder, write_folder
from t2v.models.folder import load_components
from t2v.models.single_file import from_ldm, read_configs, read_single_file, use_ema, write_single_file
from t2v.models.text_encoder import load_tokenizer
from tests.models.peers import PROMPT, relative

TEXT = "cond_stage_model.transformer.text_model."


@pytest.fixture(params=["sd1", "sd2"])
def folder(request) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(scope="module")
def sd1(sd1_folder, tmp_path_factory) -> Path:
    """A single file of Stable Diffusion 1 beside its tokenizer."""
    path = tmp_path_factory.mktemp("files") / "model.safetensors"
    write_single_file(read_folder(sd1_folder), path)
    shutil.copytree(sd1_folder / "tokenizer", path.parent / "tokenizer")
    return path


def without_header(path: Path, change: Callable[[dict], dict] = dict) -> Path:
    """The same file as other tools write it, with its tensors changed."""
    found = path.with_name("plain.safetensors")
    save_state_dict(found, change(load_state_dict(path)))
    return found


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    names = [sorted(name.removeprefix("text_model.") for name in weights) for weights in (one, other)]
    assert names[0] == names[1]
    plain = {name.removeprefix("text_model."): tensor for name, tensor in other.items()}
    for name, tensor in one.items():
        got = plain[name.removeprefix("text_model.")]
        assert got.dtype == tensor.dtype and torch.equal(got, tensor), name


def test_folder_to_file_to_folder_is_bit_exact(folder, tmp_path):
    checkpoint = read_folder(folder)
    checkpoint.parts["unet"].weights.update(
        {name: tensor.half() for name, tensor in checkpoint.parts["unet"].weights.items()}
    )
    write_single_file(checkpoint, tmp_path / "model.safetensors")
    write_folder(
        read_single_file(tmp_path / "model.safetensors"), tmp_path / "again", load_tokenizer(folder / "tokenizer")
    )
    again = read_folder(tmp_path / "again")
    for part in STEMS:
        assert_same(checkpoint.parts[part].weights, again.parts[part].weights)
        assert again.parts[part].config == checkpoint.parts[part].config
    assert again.scheduler == checkpoint.scheduler


def test_file_to_folder_to_file_is_bit_exact(folder, tmp_path):
    write_single_file(read_folder(folder), tmp_path / "model.safetensors")
    plain = without_header(tmp_path / "model.safetensors")
    write_folder(read_single_file(plain), tmp_path / "again", load_tokenizer(folder / "tokenizer"))
    write_single_file(read_folder(tmp_path / "again"), tmp_path / "again.safetensors")
    assert_same(load_state_dict(plain), load_state_dict(tmp_path / "again.safetensors"))


def test_diffusers_opens_what_we_write(folder, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    write_single_file(read_folder(folder), tmp_path / "model.safetensors")
    path, config = str(without_header(tmp_path / "model.safetensors")), str(folder)
    opened = diffusers.StableDiffusionPipeline.from_single_file(
        path, config=config, local_files_only=True, safety_checker=None
    )
    expected = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    for part in STEMS:
        assert_same(getattr(expected, part).state_dict(), getattr(opened, part).state_dict())


def test_configs_from_shapes_are_those_of_the_folder(folder, tmp_path):
    checkpoint = read_folder(folder)
    write_single_file(checkpoint, tmp_path / "model.safetensors")
    plain = without_header(tmp_path / "model.safetensors")
    configs = read_configs(load_header(plain).shapes, {}, plain)
    names = ["in_channels", "out_channels", "down_block_types", "up_block_types", "block_out_channels"]
    names += ["layers_per_block", "cross_attention_dim", "transformer_layers_per_block", "use_linear_projection"]
    names += ["attention_head_dim"]
    own = checkpoint.parts["unet"].config
    assert {name: configs["unet"][name] for name in names} == {name: own[name] for name in names}
    text, own = configs["text_encoder"], checkpoint.parts["text_encoder"].config
    shared = set(text) & set(own) - {"architectures", "pad_token_id", "projection_dim"}
    assert {name: text[name] for name in shared} == {name: own[name] for name in shared}
    assert ("prediction_type" in configs["scheduler"]) == (own["hidden_act"] != "gelu")


@torch.no_grad()
def test_a_plain_file_makes_the_picture_of_diffusers(folder, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    write_single_file(read_folder(folder), tmp_path / "model.safetensors")
    loaded = load_components(str(without_header(tmp_path / "model.safetensors")), tokenizer=str(folder))
    embeds, _ = peer.encode_prompt(PROMPT, "cpu", 1, False)
    own_embeds = loaded.text_encoder.encode([PROMPT])
    assert relative(own_embeds, embeds) < 1e-5
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    output, expected = loaded.unet(latents, 741, own_embeds), peer.unet(latents, 741, embeds).sample
    assert relative(output, expected) < 1e-5
    assert relative(loaded.autoencoder.decode(output), peer.vae.decode(expected).sample) < 1e-5


def unwrapped(weights):
    return {name.removeprefix("model.diffusion_model."): tensor for name, tensor in weights.items()}


def with_extras(weights):
    ema = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor + 1
        for name, tensor in weights.items()
        if name.startswith("model.")
    }
    noise = {"alphas_cumprod": torch.ones(3), "model_ema.decay": torch.ones(()), "global_step": torch.ones(())}
    loss = {"first_stage_model.loss.logvar": torch.ones(())}
    return {**weights, **ema, **noise, **loss, TEXT + "embeddings.position_ids": torch.arange(16)[None]}


def without_text_model(weights):
    return {name.replace(TEXT, TEXT.removesuffix("text_model.")): tensor for name, tensor in weights.items()}


def other_vae_prefix(weights):
    return {name.replace("first_stage_model.", "vae."): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("change", [unwrapped, with_extras, without_text_model, other_vae_prefix])
def test_variants_of_the_layout_are_the_same_model(sd1, change):
    expected, got = read_single_file(sd1), read_single_file(without_header(sd1, change))
    for part in STEMS:
        assert_same(expected.parts[part].weights, got.parts[part].weights)


def test_the_moving_average_is_taken_when_asked_for(sd1):
    plain = without_header(sd1, with_extras)
    expected, got = read_single_file(plain).parts, from_ldm(use_ema(load_state_dict(plain)), {}, plain).parts
    for name, tensor in expected["unet"].weights.items():
        assert torch.equal(got["unet"].weights[name], tensor + 1)
    assert_same(expected["vae"].weights, got["vae"].weights)
    with pytest.raises(InputError, match="no moving average"):
        use_ema(load_state_dict(sd1))


def test_the_last_layer_of_open_clip_is_left_out(sd2_folder, tmp_path):
    write_single_file(read_folder(sd2_folder), tmp_path / "model.safetensors")

    def complete(weights):
        last = "cond_stage_model.model.transformer.resblocks."
        copies = {
            name.replace(f"{last}22.", f"{last}23."): tensor.clone()
            for name, tensor in weights.items()
            if f"{last}22." in name
        }
        names = ("text_projection", "logit_scale")
        return {**weights, **copies, **{f"cond_stage_model.model.{name}": torch.ones(64, 64) for name in names}}

    got = read_single_file(without_header(tmp_path / "model.safetensors", complete))
    assert_same(read_folder(sd2_folder).parts["text_encoder"].weights, got.parts["text_encoder"].weights)


def test_stable_diffusion_2_predicts_what_its_network_shows(sd2_folder, tmp_path):
    """A U-Net whose output is its input predicts the noise; one of random weights does not."""
    write_single_file(read_folder(sd2_folder), tmp_path / "model.safetensors")
    plain = without_header(tmp_path / "model.safetensors")
    found = read_single_file(plain)
    assert found.scheduler["prediction_type"] == "v_prediction"
    assert found.parts["unet"].config["sample_size"] == 96

    def identity(weights):
        """Only the way through conv_in, the last skip connection, and conv_out is open, nearly linear."""
        unet = "model.diffusion_model."
        for name, tensor in weights.items():
            if name.startswith(unet):
                tensor.zero_()
        for channel in range(4):
            for sign in (0, 1):
                column = channel + 32 * sign
                weights[f"{unet}input_blocks.0.0.weight"][column, channel, 1, 1] = 1 - 2 * sign
                weights[f"{unet}out.2.weight"][channel, column, 1, 1] = 1 - 2 * sign
        shortcut = weights[f"{unet}output_blocks.3.0.skip_connection.weight"]
        for channel in range(64):
            shortcut[channel, shortcut.shape[1] - 64 + channel, 0, 0] = 1
        weights[f"{unet}out.0.weight"].fill_(1)
        return weights

    found = read_single_file(without_header(tmp_path / "model.safetensors", identity))
    assert found.scheduler["prediction_type"] == "epsilon"
    assert found.parts["unet"].config["sample_size"] == 64


def test_the_header_of_a_file_may_say_what_it_predicts(sd1, tmp_path):
    for word, expected in (("v", "v_prediction"), ("epsilon", "epsilon")):
        save_state_dict(tmp_path / "a.safetensors", load_state_dict(sd1), metadata={"modelspec.prediction_type": word})
        assert read_single_file(tmp_path / "a.safetensors").scheduler["prediction_type"] == expected


def test_without_a_tokenizer_the_message_says_where_to_get_one(sd1, tmp_path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(sd1.read_bytes())
    with pytest.raises(InputError, match=r"alone\.safetensors has no tokenizer.*--tokenizer.*tokenizer/.*hub id"):
        load_components(str(alone))
    with pytest.raises(InputError, match="no tokenizer at nowhere"):
        load_components(str(alone), tokenizer="nowhere")
    assert load_components(str(sd1)).text_encoder.tokenizer.pad_token == "<|endoftext|>"


def drop(*prefixes: str) -> Callable[[dict], dict]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if not name.startswith(prefixes)}


def add(name: str, *shape: int) -> Callable[[dict], dict]:
    return lambda weights: {**weights, name: torch.zeros(*shape)}


UNET = "model.diffusion_model."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add("conditioner.embedders.0.transformer.x", 1), "a Stable Diffusion XL checkpoint: use a Stable Diffusion 1"),
        (add(f"{UNET}label_emb.0.0.weight", 1), "Stable Diffusion XL or unCLIP"),
        (add(f"{UNET}joint_blocks.0.x", 1), "a Stable Diffusion 3 checkpoint"),
        (add("control_model.input_hint_block.0.weight", 1), "a ControlNet"),
        (add("lora_unet_x.lora_down.weight", 1), "is a LoRA file.*--lora"),
        (add("down_blocks.0.motion_modules.0.x", 1), "is an AnimateDiff file.*--motion"),
        (drop(UNET), "no Stable Diffusion checkpoint"),
        (drop("first_stage_model."), "no autoencoder: give a whole checkpoint"),
        (drop("first_stage_model.", "cond_stage_model."), "no autoencoder and no text encoder"),
        (drop(f"{UNET}middle_block.1.proj_in"), "mid_block.attentions.0.proj_in.weight is missing"),
        (drop("first_stage_model.encoder.conv_in"), "encoder.conv_in.weight is missing"),
        (add(f"{UNET}input_blocks.0.0.weight", 32, 9, 3, 3), "inpainting model"),
        (add(f"{UNET}input_blocks.0.0.weight", 32), "missing or misshapen"),
        (add(f"{UNET}extra.weight", 1), "extra.weight is not expected"),
        (add(f"{UNET}input_blocks.1.0.in_layers.2.weight", 33, 32, 3, 3), "block_out_channels has 33"),
    ],
)
def test_other_families_and_broken_files_are_refused_in_one_line(sd1, change, message):
    plain = without_header(sd1, change)
    with pytest.raises(InputError, match=message) as error:
        load_components(str(plain))
    assert "\n" not in str(error.value)


def test_broken_configs_in_the_header_are_refused(sd1, tmp_path):
    for configs in ("{", "[]", json.dumps({"unet": 3})):
        save_state_dict(tmp_path / "a.safetensors", load_state_dict(sd1), metadata={"configs": configs})
        with pytest.raises(InputError, match="configs in its header are broken"):
            read_single_file(tmp_path / "a.safetensors")
