"""Embeddings of captions: each computed once, then kept on disk in fp16, those used last in memory as well."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2v.models.base import weight_files
from t2v.models.text_encoder import TextEncoder

_MAX_KNOWN = 1024  # captions in memory: of Stable Diffusion 1.5, 0.12 GB


def text_encoder_key(base: Path) -> str:
    """A name for the embeddings of a model folder's text encoder: it changes with its weights and its tokenizer."""
    digest = hashlib.sha256()
    tokenizer = sorted(file for file in (base / "tokenizer").iterdir() if file.is_file())
    for file in [base / "text_encoder" / "config.json", *weight_files(base / "text_encoder", "model"), *tokenizer]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:24]


class PromptEmbeddings:
    """Captions to embeddings (B, L, D); of a caption longer than the text encoder's window, what fits counts.

    On disk they are FOLDER/prompts-KEY/ab/abcdef....safetensors, named by the caption's hash: safe to interrupt and
    to share between processes, since a file is renamed into its place.
    """

    def __init__(self, text_encoder: TextEncoder, base: Path, folder: Path, device: torch.device) -> None:
        self.text_encoder = text_encoder.to(device).requires_grad_(False)
        self.device = device
        self.folder = folder / f"prompts-{text_encoder_key(base)}"
        self._known: OrderedDict[str, Tensor] = OrderedDict()  # caption -> (L, D) fp16, on the CPU; last used last

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (B, L, D), fp32, on the device."""
        found = {caption: self._find(caption) for caption in captions}
        embeds = self._compute([caption for caption, known in found.items() if known is None])
        embeds |= {caption: known for caption, known in found.items() if known is not None}
        self._remember(embeds)
        return torch.stack([embeds[caption] for caption in captions]).to(self.device).float()

    def _remember(self, embeds: dict[str, Tensor]) -> None:
        for caption, tensor in embeds.items():
            self._known[caption] = tensor
            self._known.move_to_end(caption)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def _path(self, caption: str) -> Path:
        name = hashlib.sha256(caption.encode()).hexdigest()[:32]
        return self.folder / name[:2] / f"{name}.safetensors"

    def _find(self, caption: str) -> Tensor | None:
        if caption in self._known:
            return self._known[caption]
        path = self._path(caption)
        return load_file(path)["embeds"] if path.is_file() else None

    @torch.no_grad()
    def _compute(self, captions: list[str]) -> dict[str, Tensor]:
        if not captions:
            return {}
        window = self.text_encoder.tokenize(captions)[:, : self.text_encoder.max_length]
        computed = {}
        for caption, input_ids in zip(captions, window, strict=True):  # one by one: the same in whatever batch
            computed[caption] = self.text_encoder(input_ids[None].to(self.device))[0].half().cpu()
            self._save(computed[caption], self._path(caption))
        return computed

    @staticmethod
    def _save(embeds: Tensor, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        save_file({"embeds": embeds}, temporary)
        os.replace(temporary, path)
