"""CLIP: how well pictures fit a text, by the cosine of their embeddings (arXiv 2103.00020)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast

from t2v.errors import InputError
from t2v.models.base import check_state_dict, load_config
from t2v.models.text_encoder import load_tokenizer

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_UNSTORED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")  # in old files only


class ClipEmbedder:
    """Embeddings of pictures and texts in the space that they share, each of length 1."""

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer

    @property
    def name(self) -> str:
        """Which CLIP it is: ViT-B/32 is "ViT, patch 32, width 768, 12 layers"."""
        vision = self.model.config.vision_config
        return f"ViT, patch {vision.patch_size}, width {vision.hidden_size}, {vision.num_hidden_layers} layers"

    @torch.inference_mode()
    def pictures(self, frames: NDArray[np.uint8]) -> Tensor:
        """Embeddings (F, D) of frames (F, H, W, 3)."""
        pixels = clip_input(frames, self.model.config.vision_config.image_size)
        pooled = self.model.vision_model(pixel_values=pixels.to(self.model.device)).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (N, D); a text beyond the 77 tokens that CLIP takes is cut."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        tokens = {name: tokens[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        pooled = self.model.text_model(**tokens).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1)

    @classmethod
    def from_weights(cls, folder: str | Path, weights: dict[str, Tensor], what: str) -> Self:
        """From a folder with `config.json` and the tokenizer, and the weights; `what` is what messages call them."""
        config = load_config(folder)
        if config.get("model_type") != "clip":
            raise InputError(f"{folder} holds a model of type {config.get('model_type')!r}, expected 'clip'")
        model = _empty_model(config)
        weights = {name: tensor for name, tensor in weights.items() if name not in _UNSTORED}
        check_state_dict(model, weights, what)
        model.load_state_dict(weights, assign=True)
        return cls(model.float().eval(), load_tokenizer(folder))


def clip_input(frames: NDArray[np.uint8], size: int) -> Tensor:
    """uint8 (F, H, W, 3) -> (F, 3, size, size): shorter side resized bicubically, centre cut, colours normalised."""
    height, width = frames.shape[1:3]
    scale = size / min(height, width)
    width, height = max(size, int(width * scale)), max(size, int(height * scale))
    bicubic = Image.Resampling.BICUBIC
    pictures = np.stack([np.asarray(Image.fromarray(frame).resize((width, height), bicubic)) for frame in frames])
    top, left = (height - size) // 2, (width - size) // 2
    cut = torch.from_numpy(pictures[:, top : top + size, left : left + size]).float() / 255
    return ((cut - torch.tensor(_MEAN)) / torch.tensor(_STD)).permute(0, 3, 1, 2)


def _empty_model(config: dict[str, Any]) -> CLIPModel:
    """The network without memory for its weights; buffers that no file stores are filled in."""
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig.from_dict(config))
    for module in model.modules():
        if "position_ids" in module._buffers:
            positions = torch.arange(module.position_ids.shape[-1])[None]
            module.register_buffer("position_ids", positions, persistent=False)
    return model
