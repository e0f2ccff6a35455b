"""What the text branch sees, and the cache of prompt embeddings."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from t2v.errors import InputError
from t2v.models.text_encoder import TextEncoder
from t2v.training.config import TrainConfig
from t2v.training.config_sections import ClipsConfig
from t2v.training.objectives.conditioning import CONDITIONINGS, Conditioning
from t2v.training.prompt_embeddings import PromptEmbeddings, text_encoder_key
from t2v.training.randomness import sample_keys
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]
CAPTIONS = ["a robot dancing", "a cat jumping on the beach", "a robot dancing"]


def make(name: str, model: Path, folder: Path, dropout: float = 0.0) -> Conditioning:
    clips = SimpleNamespace(
        device=torch.device("cpu"),
        cache_dir=folder,
        config=ClipsConfig(caption_dropout=dropout),
        training=SimpleNamespace(clips=SimpleNamespace(has_captions=True)),
    )
    return CONDITIONINGS[name](TextEncoder.from_pretrained(model), model, clips)  # type: ignore[arg-type]


def batch_of(captions: list[str]) -> tuple[dict[str, object], Callable[[str], Tensor]]:
    indices = torch.arange(len(captions))
    keys = partial(sample_keys, 0, torch.zeros_like(indices), indices)
    return {"captions": captions, "indices": indices, "epochs": torch.zeros_like(indices)}, keys


def test_null_sees_the_empty_prompt_without_captions(tiny_image_model: Path, tmp_path: Path) -> None:
    batch, keys = batch_of(CAPTIONS)
    del batch["captions"]
    embeds = make("null", tiny_image_model, tmp_path)(batch, keys)
    empty = TextEncoder.from_pretrained(tiny_image_model).encode([""])
    assert torch.equal(embeds, empty.expand(3, -1, -1)) and not embeds.requires_grad
    assert list(tmp_path.iterdir()) == []


def test_caption_sees_the_captions(tiny_image_model: Path, tmp_path: Path) -> None:
    batch, keys = batch_of(CAPTIONS)
    embeds = make("caption", tiny_image_model, tmp_path)(batch, keys)
    expected = TextEncoder.from_pretrained(tiny_image_model).encode(CAPTIONS)
    torch.testing.assert_close(embeds, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(embeds[0], embeds[2]) and not embeds.requires_grad


def test_caption_drops_a_share_by_the_sample_alone(tiny_image_model: Path, tmp_path: Path) -> None:
    conditioning = make("caption", tiny_image_model, tmp_path, dropout=0.3)
    batch, keys = batch_of(CAPTIONS[:1] * 400)
    empty = conditioning({**batch, "captions": [""] * 400}, None)
    embeds = conditioning(batch, keys)
    dropped = (embeds == empty).flatten(1).all(dim=1)
    assert 0.2 < dropped.float().mean() < 0.4
    assert torch.equal(conditioning(batch, keys), embeds)
    assert not (conditioning(batch, None) == empty).flatten(1).all(dim=1).any()  # nothing is dropped in validation


def test_prompt_embeddings_are_computed_once(tiny_image_model: Path, tmp_path: Path) -> None:
    text_encoder = TextEncoder.from_pretrained(tiny_image_model)
    prompts = PromptEmbeddings(text_encoder, tiny_image_model, tmp_path, torch.device("cpu"))
    first = prompts(CAPTIONS)
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("??/*.safetensors"))) == 2  # distinct captions
    with torch.no_grad():
        next(text_encoder.model.parameters()).zero_()  # must not be asked again
    assert torch.equal(prompts(CAPTIONS), first)
    again = PromptEmbeddings(text_encoder, tiny_image_model, tmp_path, torch.device("cpu"))
    assert torch.equal(again(CAPTIONS), first)


def test_prompt_embeddings_keep_few_in_memory(
    tiny_image_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2v.training.prompt_embeddings._MAX_KNOWN", 3)
    text_encoder = TextEncoder.from_pretrained(tiny_image_model)
    prompts = PromptEmbeddings(text_encoder, tiny_image_model, tmp_path, torch.device("cpu"))
    captions = [f"{count} cats" for count in range(5)]
    first = prompts(captions)
    for number in (0, 1, 2, 0, 3):
        assert torch.equal(prompts(captions[number : number + 1])[0], first[number])
    assert list(prompts._known) == [captions[number] for number in (2, 0, 3)]


def test_prompt_embeddings_do_not_depend_on_the_batch(tiny_image_model: Path, tmp_path: Path) -> None:
    text_encoder, device = TextEncoder.from_pretrained(tiny_image_model), torch.device("cpu")
    among = PromptEmbeddings(text_encoder, tiny_image_model, tmp_path / "a", device)([*CAPTIONS, "a cat " * 30])
    alone = PromptEmbeddings(text_encoder, tiny_image_model, tmp_path / "b", device)(CAPTIONS[:1])
    assert among.shape == (4, 16, 16)  # of the long one, what fits
    assert torch.equal(among[0], alone[0])


def test_text_encoder_key_follows_weights_and_tokenizer(tiny_image_model: Path, tmp_path: Path) -> None:
    keys = {text_encoder_key(tiny_image_model)}
    for changed in ("text_encoder/model.safetensors", "tokenizer/merges.txt"):
        copy = tmp_path / changed.replace("/", "-")
        shutil.copytree(tiny_image_model, copy)
        (copy / changed).write_bytes((copy / changed).read_bytes() + b" ")
        keys.add(text_encoder_key(copy))
    assert len(keys) == 3


def test_frame_embedding_says_what_it_waits_for(configure: Configure) -> None:
    with pytest.raises(InputError, match="frame_embedding needs a prior"):
        Trainer(configure("temporal", "data.conditioning=frame_embedding"))
    assert configure("temporal", "data.conditioning=null").data.conditioning == "null"  # type: ignore[attr-defined]


def test_captions_beside_the_videos_reach_the_network(configure: Configure, clips: Path, tmp_path: Path) -> None:
    overrides = [f"data.path={shutil.copytree(clips, tmp_path / 'clips')}", "data.conditioning=caption", "max_steps=2"]
    with pytest.raises(InputError, match=r"no video in .*clips has one: put NAME.txt"):
        Trainer(configure("temporal", *overrides))
    for file in (tmp_path / "clips").glob("*.mp4"):
        file.with_suffix(".txt").write_text(f"a square in clip {file.stem}")
    Trainer(configure("temporal", *overrides)).run()
    (folder,) = (tmp_path / "run" / "cache").glob("prompts-*")
    assert 3 < len(list(folder.glob("??/*.safetensors"))) <= 7  # six captions and the empty one, each once
