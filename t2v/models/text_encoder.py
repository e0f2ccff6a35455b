"""The text encoder of Stable Diffusion: CLIP through transformers, its tokenizer, and prompts of any length."""

import json
import math
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from t2v.errors import InputError
from t2v.models.base import check_state_dict, load_config, load_state_dict, save_json, save_model, save_text
from t2v.models.config_checks import is_count

BOS_TOKEN, EOS_TOKEN = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
# CLIP's pieces of text that byte-pair merges never cross ("Learning Transferable Visual Models", arXiv 2103.00020)
CLIP_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
COUNTS = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
CONFIG_FIELDS = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_factor",
    "initializer_range",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "projection_dim",
    "use_attention_mask",
    "vocab_size",
)
KEY_PREFIX = "text_model."  # of the public format; transformers 5 leaves it out in memory


def split_words(text: str) -> list[str]:
    """The words and numbers of a text in lower case, in order."""
    return WORD.findall(text.lower())


def unseen_words(prompt: str, vocabulary: frozenset[str]) -> list[str]:
    """Words of the prompt that are not in `vocabulary` (lower case), each once, in order."""
    return [word for word in dict.fromkeys(split_words(prompt)) if word not in vocabulary]


def train_tokenizer(captions: Iterable[str], vocab_size: int, max_length: int) -> CLIPTokenizerFast:
    """Byte-pair tokenizer in CLIP's format, learned from captions; the same captions give the same tokenizer.

    Args:
        vocab_size: entries at most; 514 are bytes, bytes that end a word, and the two special tokens.
        max_length: positions of a prompt window, begin and end included.
    """
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols += [symbol + WORD_END for symbol in symbols]
    if vocab_size < len(symbols) + 2:
        raise InputError(f"vocab_size is {vocab_size}, must be at least {len(symbols) + 2}: all bytes are tokens")
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    # Given as special tokens, all symbols have fixed numbers; merges of equal count are then taken in a fixed order.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2, special_tokens=symbols, end_of_word_suffix=WORD_END, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    vocab, merges = _vocab_and_merges(tokenizer)
    for token in (BOS_TOKEN, EOS_TOKEN):
        vocab[token] = len(vocab)
    with tempfile.TemporaryDirectory() as folder:
        special_tokens = {"bos_token": BOS_TOKEN, "eos_token": EOS_TOKEN, "pad_token": EOS_TOKEN}
        _write_tokenizer(Path(folder), vocab, merges, max_length, special_tokens)
        return load_tokenizer(folder)


def _vocab_and_merges(tokenizer: Tokenizer) -> tuple[dict[str, int], list[str]]:
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return dict(sorted(model["vocab"].items(), key=lambda item: item[1])), merges


def _write_tokenizer(
    folder: Path, vocab: dict[str, int], merges: list[str], max_length: int, special_tokens: dict[str, str]
) -> None:
    """The four files that every version of transformers and diffusers reads as a CLIP tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    special_tokens = {"unk_token": EOS_TOKEN, **special_tokens}
    save_json(folder / "vocab.json", vocab)
    save_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    save_json(folder / "special_tokens_map.json", special_tokens)
    config = {"tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "model_max_length": max_length}
    save_json(folder / "tokenizer_config.json", {**config, **special_tokens})


def load_tokenizer(folder: str | Path) -> CLIPTokenizerFast:
    """Read a `tokenizer/` folder; InputError names the file that is missing."""
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file():
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise InputError(f"{folder / name} is missing: check the path or download the model again")
    try:
        return CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder} is not a CLIP tokenizer ({reason}): download the model again") from error


def save_tokenizer(tokenizer: CLIPTokenizerFast, folder: str | Path) -> None:
    """Write a `tokenizer/` folder: vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json."""
    vocab, merges = _vocab_and_merges(tokenizer.backend_tokenizer)
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    special_tokens = {name: str(getattr(tokenizer, name)) for name in names}
    _write_tokenizer(Path(folder), vocab, merges, tokenizer.model_max_length, special_tokens)


class TextEncoder(nn.Module):
    """CLIP text model and tokenizer: prompts to embeddings `(B, L, D)`.

    A prompt longer than the model's `max_length` (77) is cut into windows, each with its own begin, end and padding;
    the embeddings of all windows follow each other along L. What the model gives is its last hidden state after the
    final layer norm; Stable Diffusion 2 stores a model of 23 layers to have the last but one.
    """

    def __init__(self, model: CLIPTextModel, tokenizer: CLIPTokenizerFast) -> None:
        super().__init__()
        if len(tokenizer) > model.config.vocab_size:
            raise InputError(
                f"the tokenizer has {len(tokenizer)} tokens, the text encoder {model.config.vocab_size}: "
                "text_encoder/ and tokenizer/ must come from the same model"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)

    @property
    def hidden_size(self) -> int:
        """Width D of the embeddings."""
        return self.model.config.hidden_size

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Token numbers `(B, num_windows * max_length)`, on the CPU; every prompt as many windows as the longest."""
        length = self.max_length - 2
        token_ids = self.tokenizer(prompts, add_special_tokens=False, verbose=False)["input_ids"]
        num_windows = max([1, *(math.ceil(len(ids) / length) for ids in token_ids)])
        rows = []
        for ids in token_ids:
            windows = [ids[i * length : (i + 1) * length] for i in range(num_windows)]
            rows.append([token for window in windows for token in self._window(window)])
        return torch.tensor(rows, dtype=torch.long)

    def _window(self, ids: list[int]) -> list[int]:
        window = [self.tokenizer.bos_token_id, *ids, self.tokenizer.eos_token_id]
        return window + [self.tokenizer.pad_token_id] * (self.max_length - len(window))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embeddings `(B, L, D)` of token numbers `(B, L)`, L a multiple of `max_length`."""
        windows = rearrange(input_ids, "b (n l) -> (b n) l", l=self.max_length)
        mask = None
        if getattr(self.model.config, "use_attention_mask", False):
            ends = (windows == self.tokenizer.eos_token_id).long()
            mask = (ends.cumsum(1) - ends == 0).long()  # up to and with the first end token
        embeddings = self.model(input_ids=windows, attention_mask=mask).last_hidden_state
        return rearrange(embeddings, "(b n) l d -> b (n l) d", b=len(input_ids))

    def encode(self, prompts: list[str], device: torch.device | None = None) -> Tensor:
        """Embeddings `(B, L, D)` of prompts, on the model's device; `device` where its weights come there on demand."""
        return self(self.tokenize(prompts).to(device or self.model.device))

    @classmethod
    def from_pretrained(cls, model_folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """Read `text_encoder/` and `tokenizer/` of a model folder; InputError for anything missing or not fitting."""
        folder = Path(model_folder) / "text_encoder"
        config = load_config(folder)
        _check_type(config, str(folder))
        state_dict = load_state_dict(folder, stem="model")
        tokenizer = load_tokenizer(Path(model_folder) / "tokenizer")
        return cls.from_parts(config, state_dict, tokenizer, str(folder), dtype)

    @classmethod
    def from_parts(
        cls,
        config: dict[str, Any],
        state_dict: dict[str, Tensor],
        tokenizer: CLIPTokenizerFast,
        what: str,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """From a public `config.json`, its weights and a tokenizer; `what` is what messages call the weights."""
        model, weights = fitting_text_weights(config, state_dict, what)
        model.load_state_dict(weights, assign=True)
        return cls(model.to(dtype), tokenizer).eval()

    def save_pretrained(self, model_folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `text_encoder/` and `tokenizer/` of a model folder, in the public format."""
        fields = {name: getattr(self.model.config, name, None) for name in CONFIG_FIELDS}
        config = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
        config |= {name: value for name, value in fields.items() if value is not None}
        state_dict = _rename_keys(self.model.state_dict(), True)
        save_model(Path(model_folder) / "text_encoder", config, state_dict, stem="model", dtype=dtype)
        save_tokenizer(self.tokenizer, Path(model_folder) / "tokenizer")


def fitting_text_weights(
    config: dict[str, Any], state_dict: dict[str, Tensor], what: str
) -> tuple[CLIPTextModel, dict[str, Tensor]]:
    """The network of a public `config.json`, without memory, and its weights; InputError unless they fit."""
    _check_type(config, what)
    try:
        model = _empty_model(CLIPTextConfig.from_dict(config))
    except Exception as error:  # the library's checks of its fields raise what they like
        reason = " ".join(str(error).split())
        raise InputError(f"{what}: config.json is of no CLIP text encoder ({reason})") from error
    weights = _rename_keys(state_dict, next(iter(model.state_dict())).startswith(KEY_PREFIX))
    check_state_dict(model, weights, what)
    return model, weights


def _check_type(config: dict[str, Any], what: str) -> None:
    if config.get("model_type", "clip_text_model") != "clip_text_model":
        raise InputError(f"{what}: model_type is {config['model_type']!r}, supported is 'clip_text_model'")
    for name in COUNTS:
        if name in config and not is_count(name, config[name]):
            raise InputError(f"{what}: {name} is {config[name]!r}, expected a positive integer of a usual size")


def _empty_model(config: CLIPTextConfig) -> CLIPTextModel:
    """The network without memory for its weights; its one buffer, which no file stores, is filled in."""
    with torch.device("meta"):
        model = CLIPTextModel(config)
    for module in model.modules():
        if "position_ids" in module._buffers:
            positions = torch.arange(config.max_position_embeddings)[None]
            module.register_buffer("position_ids", positions, persistent=False)
    return model


def _rename_keys(state_dict: dict[str, Tensor], with_prefix: bool) -> dict[str, Tensor]:
    """Keys with or without `text_model.`, of the text model alone, without the positions that old files store."""
    prefix = KEY_PREFIX if with_prefix else ""
    return {
        prefix + name.removeprefix(KEY_PREFIX): tensor
        for name, tensor in state_dict.items()
        if not name.endswith("position_ids") and not name.startswith("text_projection")
    }


def new_text_encoder(
    tokenizer: CLIPTokenizerFast,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    generator: torch.Generator,
    intermediate_size: int | None = None,
) -> TextEncoder:
    """Untrained text encoder for a tokenizer, CLIP's initialisation drawn from `generator`.

    Args:
        intermediate_size: width inside the feed-forward layers; None: four times `hidden_size`.
    """
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "projection_dim": hidden_size,
        "intermediate_size": intermediate_size or 4 * hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "max_position_embeddings": tokenizer.model_max_length,
    }
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):  # transformers initialises from the global generator
        torch.manual_seed(seed)
        model = CLIPTextModel(CLIPTextConfig(**sizes, **special))
    return TextEncoder(model, tokenizer)
