import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from t2v.errors import InputError
from t2v.models.base import load_state_dict
from t2v.models.clip import ClipEmbedder, clip_input
from t2v.models.text_encoder import save_tokenizer, train_tokenizer
from tests.conftest import CAPTIONS


def write_clip(folder):
    """A tiny CLIP as transformers writes it."""
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=600, max_length=16)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id}
    text |= {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPConfig(
            text_config={**sizes, **text}, vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=8
        )
        model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return model, tokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    model, tokenizer = write_clip(folder)
    return ClipEmbedder.from_weights(folder, load_state_dict(folder, stem="model"), "x"), model, tokenizer, folder


def test_embeddings_equal_those_of_transformers(clip):
    own, model, tokenizer, _ = clip
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), np.uint8)
    with torch.no_grad():
        pictures = model.get_image_features(pixel_values=clip_input(frames, 32)).pooler_output
        tokens = tokenizer(list(CAPTIONS), padding=True, return_tensors="pt")
        texts = model.get_text_features(**tokens).pooler_output
    for found, expected in ((own.pictures(frames), pictures), (own.texts(CAPTIONS), texts)):
        assert torch.allclose(found, expected / expected.norm(dim=-1, keepdim=True), atol=1e-6)
        assert torch.allclose(found.norm(dim=-1), torch.ones(len(found)))
    assert own.name == "ViT, patch 8, width 16, 2 layers"


def test_a_long_text_is_cut(clip):
    own = clip[0]
    assert own.texts(["robot " * 100]).shape == (1, 8)


def test_pictures_are_prepared_as_by_the_image_processor():
    """Against the processor of transformers on PIL, for sizes above and below, high and wide."""
    processors = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = processors.CLIPImageProcessorPil()
    for size in ((300, 420), (260, 225), (100, 90)):
        frames = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        expected = processor(images=list(frames), return_tensors="pt")["pixel_values"]
        assert torch.allclose(clip_input(frames, 224), torch.as_tensor(np.asarray(expected)), atol=1e-5)


def test_what_is_no_clip_is_refused(clip, tmp_path):
    folder = clip[3]
    weights = load_state_dict(folder, stem="model")
    with pytest.raises(InputError, match=r"w: visual_projection.weight is missing"):
        ClipEmbedder.from_weights(folder, {k: v for k, v in weights.items() if not k.startswith("visual")}, "w")
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(InputError, match="model of type 'siglip', expected 'clip'"):
        ClipEmbedder.from_weights(tmp_path, weights, "w")
