"""Embeddings of captions: each computed once, then kept in memory and on disk in fp16."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2v.models.base import weight_files
from t2v.models.text_encoder import TextEncoder


def text_encoder_key(base: Path) -> str:
    """A name for the embeddings of a model folder's text encoder: it changes with its weights and its tokenizer."""
    digest = hashlib.sha256()
    tokenizer = sorted(file for file in (base / "tokenizer").iterdir() if file.is_file())
    for file in [base / "text_encoder" / "config.json", *weight_files(base / "text_encoder", "model"), *tokenizer]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:24]


class PromptEmbeddings:
    """Captions to embeddings (B, L, D); of a caption longer than the text encoder's window, what fits counts.

    On disk they are FOLDER/prompts-KEY/CAPTION.safetensors, where CAPTION is a hash: safe to interrupt and to share
    between processes, since a file is renamed into its place.
    """

    def __init__(self, text_encoder: TextEncoder, base: Path, folder: Path, device: torch.device) -> None:
        self.text_encoder = text_encoder.to(device).requires_grad_(False)
        self.device = device
        self.folder = folder / f"prompts-{text_encoder_key(base)}"
        self._known: dict[str, Tensor] = {}  # caption -> (L, D) fp16, on the CPU

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (B, L, D), fp32, on the device."""
        missing = [caption for caption in dict.fromkeys(captions) if not self._find(caption)]
        if missing:
            self._compute(missing)
        return torch.stack([self._known[caption] for caption in captions]).to(self.device).float()

    def _path(self, caption: str) -> Path:
        return self.folder / f"{hashlib.sha256(caption.encode()).hexdigest()[:32]}.safetensors"

    def _find(self, caption: str) -> bool:
        if caption not in self._known and (path := self._path(caption)).is_file():
            self._known[caption] = load_file(path)["embeds"]
        return caption in self._known

    @torch.no_grad()
    def _compute(self, captions: list[str]) -> None:
        window = self.text_encoder.tokenize(captions)[:, : self.text_encoder.max_length]
        self.folder.mkdir(parents=True, exist_ok=True)
        for caption, input_ids in zip(captions, window, strict=True):  # one by one: the same in whatever batch
            embeds = self.text_encoder(input_ids[None].to(self.device))[0].half().cpu()
            path = self._path(caption)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            save_file({"embeds": embeds}, temporary)
            os.replace(temporary, path)
            self._known[caption] = embeds
