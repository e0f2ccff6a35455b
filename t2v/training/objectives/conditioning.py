"""What the frozen text branch sees while clips are learned (`data.conditioning`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from t2v.errors import InputError
from t2v.models.text_encoder import TextEncoder
from t2v.training.objectives.base import Batch
from t2v.training.objectives.clip_latents import ClipLatents
from t2v.training.prompt_embeddings import PromptEmbeddings
from t2v.training.randomness import uniform


class Conditioning(Protocol):
    """Text embeddings of a batch."""

    def __call__(self, batch: Batch, keys: Callable[[str], Tensor] | None) -> Tensor:
        """Embeddings (B, L, D), fp32.

        Args:
            keys: of the samples' random numbers, by stream; None: nothing is left to chance.
        """


class EmptyPrompt:
    """`null`: the empty prompt for every clip, so that no captions are needed."""

    def __init__(self, text_encoder: TextEncoder, device: torch.device) -> None:
        with torch.no_grad():
            self.embeds = text_encoder.encode([""]).to(device)

    def __call__(self, batch: Batch, keys: Callable[[str], Tensor] | None) -> Tensor:
        return self.embeds.expand(len(batch["indices"]), -1, -1)


class Captions:
    """`caption`: the clip's caption, and the empty prompt for a share of the samples and for clips without one."""

    def __init__(self, prompts: PromptEmbeddings, dropout: float) -> None:
        self.prompts, self.dropout = prompts, dropout

    def __call__(self, batch: Batch, keys: Callable[[str], Tensor] | None) -> Tensor:
        captions: list[str] = batch["captions"]
        if keys is not None:
            dropped = (uniform(keys("caption"))[:, 0] < self.dropout).tolist()
            captions = ["" if drop else caption for caption, drop in zip(captions, dropped, strict=True)]
        return self.prompts(captions)


def _empty_prompt(text_encoder: TextEncoder, base: Path, clips: ClipLatents) -> Conditioning:
    return EmptyPrompt(text_encoder, clips.device)


def _captions(text_encoder: TextEncoder, base: Path, clips: ClipLatents) -> Conditioning:
    if not clips.training.clips.has_captions:
        raise InputError(
            f"data.conditioning is caption, and no video in {clips.config.path} has one: put NAME.txt beside NAME.mp4 "
            "or a caption into the manifest, or use null"
        )
    return Captions(PromptEmbeddings(text_encoder, base, clips.cache_dir, clips.device), clips.config.caption_dropout)


def _frame_embedding(text_encoder: TextEncoder, base: Path, clips: ClipLatents) -> Conditioning:
    raise InputError(
        "data.conditioning: frame_embedding needs a prior from text to image embeddings, which comes with a later "
        "version; use null or caption"
    )


CONDITIONINGS: dict[str, Callable[[TextEncoder, Path, ClipLatents], Conditioning]] = {
    "null": _empty_prompt,
    "caption": _captions,
    "frame_embedding": _frame_embedding,
}
