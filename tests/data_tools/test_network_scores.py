import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

import t2v
from data_tools.network_scores import ClipScorer, NetworkOptions, with_network_scores
from t2v.data.manifest import ClipRow
from t2v.errors import InputError
from tests.data_tools.media import counted, encode

SIDE, WIDTH = 32, 16
TOKENIZER = Path(t2v.__file__).parent / "zoo/mini/tokenizer"
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A CLIP of random weights with a linear predictor on it, as files."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    text = {
        **SMALL,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 12,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {**SMALL, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file({"weight": torch.randn(1, WIDTH), "bias": torch.tensor([5.0])}, folder.parent / "linear.safetensors")
    return NetworkOptions(folder, folder.parent / "linear.safetensors")


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


@torch.no_grad()
def _peer(weights, frames, caption):
    """The same by transformers' own way from pictures and words to the cosines, and unit embeddings of the pictures."""
    model = CLIPModel.from_pretrained(weights.clip).eval()
    size = {"do_resize": False, "do_center_crop": False}
    images = CLIPImageProcessor(**size)(images=list(frames), return_tensors="pt")
    words = CLIPTokenizer.from_pretrained(weights.clip)([caption], return_tensors="pt")
    out = model(**images, input_ids=words.input_ids, attention_mask=words.attention_mask)
    return float(out.logits_per_image.mean() / model.logit_scale.exp()), out.image_embeds


def test_scores_are_those_of_transformers_and_the_linear_layer(weights, frames):
    cosine, embeddings = _peer(weights, frames, "a cat on the beach")
    layer = load_file(weights.aesthetic)
    scores = ClipScorer(weights).scores(frames, "a cat on the beach")
    assert scores["score_clip"] == pytest.approx(cosine, abs=1e-5)
    assert scores["score_aesthetic"] == pytest.approx(float((embeddings @ layer["weight"].T + layer["bias"]).mean()))


def test_without_a_caption_there_is_no_fit_and_long_ones_are_cut_off(weights, frames):
    scorer = ClipScorer(weights)
    assert scorer.scores(frames, None)["score_clip"] is None
    assert -1 <= scorer.scores(frames, "a cat " * 50)["score_clip"] <= 1


def test_a_predictor_of_several_layers_is_their_product(weights, frames, tmp_path):
    torch.manual_seed(1)
    layers = {0: (8, WIDTH), 2: (4, 8), 10: (1, 4)}
    tensors = {f"layers.{n}.weight": torch.randn(shape) for n, shape in layers.items()}
    tensors |= {f"layers.{n}.bias": torch.randn(shape[0]) for n, shape in layers.items()}
    save_file(tensors, tmp_path / "several.safetensors")
    values = _peer(weights, frames, "cat")[1]
    for n in layers:
        values = values @ tensors[f"layers.{n}.weight"].T + tensors[f"layers.{n}.bias"]
    options = replace(weights, aesthetic=tmp_path / "several.safetensors")
    options.check()
    assert ClipScorer(options).scores(frames, None)["score_aesthetic"] == pytest.approx(float(values.mean()), abs=1e-4)


def test_the_clips_of_a_file_get_columns_of_their_own_frames(weights, tmp_path):
    path = encode(tmp_path / "a.mp4", [counted(i // 30 * 255) for i in range(60)])
    first = ClipRow("1", "a.mp4", end=1.2, fps=25.0, caption="cat")
    rows = [first, replace(first, clip_id="2", start=1.2, end=2.4), replace(first, clip_id="3", error="broken")]
    one, two, broken = with_network_scores(rows, path, weights)
    assert one.extra.keys() == {"score_aesthetic", "score_clip"} and one.extra != two.extra
    assert broken == rows[2]
    assert with_network_scores(rows, path, NetworkOptions()) == rows


def test_weights_that_cannot_be_used_are_refused(weights, tmp_path):
    weights.check()
    save_file({"weight": torch.zeros(1, 7), "bias": torch.zeros(1)}, tmp_path / "other.safetensors")
    save_file({"embedding": torch.zeros(3)}, tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    (tmp_path / "pickle").mkdir()
    shutil.copy(weights.clip / "config.json", tmp_path / "pickle")
    for options, message in (
        (NetworkOptions(None, weights.aesthetic), "name the CLIP folder as well"),
        (NetworkOptions(tmp_path), "is no CLIP folder"),
        (NetworkOptions(TOKENIZER.parent / "text_encoder"), "got model type 'clip_text_model'"),
        (NetworkOptions(tmp_path / "pickle"), "has no .safetensors file"),
        (replace(weights, aesthetic=tmp_path / "head.pth"), "must be a .safetensors file"),
        (replace(weights, aesthetic=tmp_path / "torn.safetensors"), "cannot read"),
        (replace(weights, aesthetic=tmp_path / "none.safetensors"), "is no aesthetic predictor"),
        (replace(weights, aesthetic=tmp_path / "other.safetensors"), "is for embeddings of 7 numbers"),
    ):
        with pytest.raises(InputError, match=message):
            options.check()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"visual_projection.weight": "visual.proj"}, "visual_projection.weight is missing"),
        ({"new": None}, "new is not expected"),
        ({"logit_scale": None}, "cannot be read as its config.json says"),
    ],
)
def test_clip_weights_that_do_not_fill_the_network_are_refused(weights, tmp_path, changed, message):
    """Instead of scores by random numbers."""
    folder = shutil.copytree(weights.clip, tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    for name, new in changed.items():
        tensors |= {new: tensors.pop(name)} if new else {name: torch.zeros(3)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=message):
        replace(weights, clip=folder).check()
    with pytest.raises(InputError, match=message):
        ClipScorer(replace(weights, clip=folder))


def test_positions_that_old_files_store_are_no_fault(weights, tmp_path):
    folder = shutil.copytree(weights.clip, tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    replace(weights, clip=folder).check()


def test_work_is_known_by_the_content_of_the_weights(weights, tmp_path):
    folder = shutil.copytree(weights.clip, tmp_path / "clip")

    def key(**changes):
        return repr(replace(weights, **changes))

    first = key()
    assert key(clip=folder) == first
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "logit_scale": torch.tensor(1.0)}, folder / "model.safetensors", metadata={"format": "pt"})
    other = key(clip=folder)
    save_file({"weight": torch.ones(1, WIDTH), "bias": torch.zeros(1)}, tmp_path / "linear.safetensors")
    assert len({first, other, key(aesthetic=tmp_path / "linear.safetensors"), key(aesthetic=None)}) == 4
