import json

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from t2v.errors import InputError
from t2v.models.base import load_config, load_state_dict, save_model
from t2v.models.text_encoder import (
    TextEncoder,
    load_tokenizer,
    new_text_encoder,
    save_tokenizer,
    split_words,
    train_tokenizer,
    unseen_words,
)

CAPTIONS = [
    "a robot dancing in Times Square",
    "the robot is dancing on the beach",
    "two cats are jumping in the forest",
    "a cat's jumping at Times Square",
    "a frog in outer space, flying",
] * 3
MAX_LENGTH = 12
PROMPTS = ["a robot dancing", "", "Two  cats' 22 Ünïcode ☃ frogs!"]
LONG = "a robot is dancing in Times Square with two cats and the frog is flying on the beach in outer space"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, 600, MAX_LENGTH)


@pytest.fixture
def encoder(tokenizer):
    return new_text_encoder(tokenizer, 32, 2, 4, torch.Generator().manual_seed(0)).eval()


def peer_of(folder):
    """What transformers makes of the same folder."""
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    return model, CLIPTokenizer.from_pretrained(folder / "tokenizer")


@torch.no_grad()
def encode_with_peer(folder, prompts):
    model, tokenizer = peer_of(folder)
    tokens = tokenizer(prompts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt")
    return tokens.input_ids, model(tokens.input_ids).last_hidden_state


def test_short_prompts_agree_with_transformers(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    input_ids, expected = encode_with_peer(tmp_path, PROMPTS[:2])
    loaded = TextEncoder.from_pretrained(tmp_path)
    assert torch.equal(loaded.tokenize(PROMPTS[:2]), input_ids)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(PROMPTS[:2]), expected, atol=1e-6, rtol=1e-6)


def test_sd2_like_folder_agrees_with_transformers(tokenizer, tmp_path):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        max_position_embeddings=MAX_LENGTH,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=1,
    )
    model = CLIPTextModel(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "text_encoder")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = tmp_path / "tokenizer" / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**content, "pad_token": "!"}))
    input_ids, expected = encode_with_peer(tmp_path, PROMPTS[:1])
    assert input_ids[0, -1] == tokenizer.convert_tokens_to_ids("!") != tokenizer.eos_token_id
    loaded = TextEncoder.from_pretrained(tmp_path)
    assert torch.equal(loaded.tokenize(PROMPTS[:1]), input_ids)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(PROMPTS[:1]), expected, atol=1e-5, rtol=1e-5)
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(TextEncoder.from_pretrained(tmp_path / "again").tokenize(PROMPTS[:1]), input_ids)


def test_long_prompts_are_windows_side_by_side(encoder, tokenizer):
    ids = tokenizer(LONG, add_special_tokens=False)["input_ids"]
    step = MAX_LENGTH - 2
    assert 2 * step < len(ids) < 3 * step
    windows = []
    for start in range(0, len(ids), step):
        window = [tokenizer.bos_token_id, *ids[start : start + step], tokenizer.eos_token_id]
        windows.append(window + [tokenizer.pad_token_id] * (MAX_LENGTH - len(window)))
    input_ids = encoder.tokenize([LONG])
    assert input_ids.tolist() == [[token for window in windows for token in window]]
    with torch.no_grad():
        expected = encoder.model(torch.tensor(windows)).last_hidden_state.flatten(0, 1)
        torch.testing.assert_close(encoder(input_ids)[0], expected, atol=1e-6, rtol=1e-6)


def test_a_batch_is_filled_with_empty_windows(encoder):
    with torch.no_grad():
        both = encoder.encode(["a robot dancing", LONG])
        short, empty, long = encoder.encode(["a robot dancing"]), encoder.encode([""]), encoder.encode([LONG])
    assert both.shape == (2, 3 * MAX_LENGTH, 32)
    torch.testing.assert_close(both[:1], torch.cat([short, empty, empty], dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1:], long, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("extra", "num_windows"), [(0, 1), (1, 2)])
def test_a_prompt_that_just_fits_is_one_window(encoder, extra, num_windows):
    assert encoder.tokenize(["a " * (MAX_LENGTH - 2 + extra)]).shape == (1, num_windows * MAX_LENGTH)


def test_attention_mask_only_where_the_config_asks(encoder, tmp_path):
    encoder.model.config.use_attention_mask = True
    encoder.save_pretrained(tmp_path)
    model, tokenizer = peer_of(tmp_path)
    tokens = tokenizer(PROMPTS[:1], padding="max_length", max_length=MAX_LENGTH, return_tensors="pt")
    with torch.no_grad():
        expected = model(tokens.input_ids, tokens.attention_mask).last_hidden_state
        loaded = TextEncoder.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded.encode(PROMPTS[:1]), expected, atol=1e-6, rtol=1e-6)
        loaded.model.config.use_attention_mask = False
        assert not torch.allclose(loaded.encode(PROMPTS[:1]), expected, atol=1e-3)


def test_save_pretrained_writes_the_public_format(encoder, tmp_path):
    encoder.save_pretrained(tmp_path, dtype=torch.float16)
    state_dict = load_state_dict(tmp_path / "text_encoder", stem="model")
    assert {tensor.dtype for tensor in state_dict.values()} == {torch.float16}
    assert all(name.startswith("text_model.") for name in state_dict)
    assert load_config(tmp_path / "text_encoder")["architectures"] == ["CLIPTextModel"]
    assert sorted(path.name for path in (tmp_path / "tokenizer").iterdir()) == [
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


@pytest.mark.parametrize("prefix", ["text_model.", ""])
def test_from_pretrained_reads_keys_of_all_versions(encoder, tmp_path, prefix):
    encoder.save_pretrained(tmp_path)
    state_dict = load_state_dict(tmp_path / "text_encoder", stem="model")
    renamed = {prefix + name.removeprefix("text_model."): tensor for name, tensor in state_dict.items()}
    renamed[f"{prefix}embeddings.position_ids"] = torch.arange(MAX_LENGTH)[None]
    save_model(tmp_path / "text_encoder", load_config(tmp_path / "text_encoder"), renamed, stem="model")
    with torch.no_grad():
        loaded = TextEncoder.from_pretrained(tmp_path).encode(PROMPTS)
        torch.testing.assert_close(loaded, encoder.encode(PROMPTS), atol=1e-6, rtol=1e-6)


def test_from_pretrained_names_what_is_wrong(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    (tmp_path / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"merges\.txt is missing"):
        TextEncoder.from_pretrained(tmp_path)
    (tmp_path / "tokenizer" / "vocab.json").write_text("{")
    (tmp_path / "tokenizer" / "merges.txt").write_text("")
    with pytest.raises(InputError, match=r"tokenizer is not a CLIP tokenizer \("):
        TextEncoder.from_pretrained(tmp_path)
    weights = tmp_path / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.safetensors is truncated"):
        TextEncoder.from_pretrained(tmp_path)
    config = load_config(tmp_path / "text_encoder")
    (tmp_path / "text_encoder" / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    with pytest.raises(InputError, match="model_type is 't5'"):
        TextEncoder.from_pretrained(tmp_path)


def test_text_encoder_refuses_a_larger_tokenizer(encoder):
    with pytest.raises(InputError, match="same model"):
        TextEncoder(encoder.model, train_tokenizer([*CAPTIONS, "unlike any other sentence here"] * 2, 700, MAX_LENGTH))


def test_gradients_reach_every_parameter(encoder):
    encoder.encode(PROMPTS).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_new_text_encoder_repeats_and_leaves_the_global_generator_alone(tokenizer):
    state = torch.get_rng_state()
    first, second, other = (
        new_text_encoder(tokenizer, 16, 1, 2, torch.Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    matrices = [name for name in first if first[name].ndim == 2]
    assert matrices
    assert not any(torch.equal(first[name], other[name]) for name in matrices)


def test_train_tokenizer_repeats(tokenizer):
    for captions in [CAPTIONS, list(reversed(CAPTIONS))] * 3:
        again = train_tokenizer(captions, 600, MAX_LENGTH)
        assert again.get_vocab() == tokenizer.get_vocab()
        assert again(CAPTIONS)["input_ids"] == tokenizer(CAPTIONS)["input_ids"]


def test_train_tokenizer_learns_frequent_words(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("A Robot's dancing")["input_ids"])
    assert tokens == ["<|startoftext|>", "a</w>", "robot</w>", "'s</w>", "dancing</w>", "<|endoftext|>"]


def test_train_tokenizer_limits():
    assert len(train_tokenizer(CAPTIONS, 520, MAX_LENGTH)) == 520
    with pytest.raises(InputError, match="at least 514"):
        train_tokenizer(CAPTIONS, 513, MAX_LENGTH)


def test_tokenizer_can_say_everything(tokenizer):
    ids = tokenizer(PROMPTS[2], add_special_tokens=False)["input_ids"]
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == "twocats'22ünïcode☃frogs!"


def test_save_tokenizer_round_trip(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.model_max_length == MAX_LENGTH
    assert loaded(CAPTIONS)["input_ids"] == tokenizer(CAPTIONS)["input_ids"]


def test_split_words():
    assert split_words("A cat's 2 Robots, dancing!") == ["a", "cat's", "2", "robots", "dancing"]


def test_unseen_words():
    vocabulary = frozenset({"a", "robot", "cat's"})
    assert unseen_words("A zebra, a cat's Zebra; robot yodeling", vocabulary) == ["zebra", "yodeling"]
    assert unseen_words("a robot", vocabulary) == []
