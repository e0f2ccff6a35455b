"""Scores that need a network: how a clip looks and how well its caption fits, by CLIP weights that the user names.

The only module of the data tools that uses torch; it is imported when such a score is asked for.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.cut import cropped, sizes
from data_tools.probe import file_digest, reason_of
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoReader
from t2v.errors import InputError

if TYPE_CHECKING:
    import torch

_READ_OF_CLIP = ("*.safetensors", "*.json", "*.txt")  # weights, config and tokenizer
_SHOWN_AT = (0.25, 0.5, 0.75)  # of the clip's length
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, of RGB in 0..1


@dataclass(frozen=True, repr=False)
class NetworkOptions:
    """Weights on this machine; nothing is downloaded. The repr names them by their content, wherever they lie."""

    clip: Path | None = None  # folder of a transformers CLIPModel with its tokenizer
    aesthetic: Path | None = None  # .safetensors of LAION's predictor for that CLIP: one linear layer, or several

    def __repr__(self) -> str:
        return self._content

    @cached_property
    def _content(self) -> str:
        clip = aesthetic = None
        if self.clip is not None:
            files = sorted(file for kind in _READ_OF_CLIP for file in self.clip.glob(kind))
            clip = hashlib.sha256(" ".join(f"{file.name} {file_digest(file)}" for file in files).encode()).hexdigest()
        if self.aesthetic is not None:
            aesthetic = file_digest(self.aesthetic)
        return f"NetworkOptions(clip={clip}, aesthetic={aesthetic})"

    @property
    def preloaded(self) -> Sequence[str]:
        """Modules that processes want to find imported."""
        return () if self.clip is None else ("torch", "transformers.models.clip.modeling_clip")

    def below(self, folder: Path) -> "NetworkOptions":
        """The same files by absolute paths; relative ones begin at `folder`."""
        clip, aesthetic = ((folder / path).absolute() if path else None for path in (self.clip, self.aesthetic))
        return NetworkOptions(clip, aesthetic)

    def check(self) -> None:
        """InputError for files that are not there, are of another kind or do not fit each other."""
        if self.clip is None:
            if self.aesthetic is not None:
                raise InputError("the aesthetic score is made of CLIP's embedding: name the CLIP folder as well")
            return
        kind = _clip_config(self.clip).get("model_type")
        if kind != "clip":
            raise InputError(f"{self.clip} must hold a CLIP model of transformers, got model type {kind!r}")
        if not list(self.clip.glob("*.safetensors")):
            raise InputError(f"{self.clip} has no .safetensors file; convert its weights first: t2v convert")
        if self.aesthetic is not None:
            width = _read_layers(self.aesthetic)[0][0].shape[1]
            expected = _clip_config(self.clip).get("projection_dim", 512)
            if width != expected:
                raise InputError(
                    f"{self.aesthetic} is for embeddings of {width} numbers, {self.clip} gives {expected}; "
                    "take the predictor that was trained for this CLIP"
                )
        _load_clip(self.clip)


def _clip_config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no CLIP folder: its config.json cannot be read ({error})") from error


def _read_layers(file: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of the linear layers, in order: `weight` and `bias`, or numbered as in `layers.0.weight`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if file.suffix != ".safetensors":
        raise InputError(f"{file.name} must be a .safetensors file; make one of a pickle with t2v convert")
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {file} ({error})") from error
    names = sorted(
        (name.removesuffix("weight") for name in tensors if name.endswith("weight")),
        key=lambda name: [int(part) for part in name.split(".") if part.isdigit()],
    )
    layers = [(tensors[name + "weight"], tensors.get(name + "bias")) for name in names]
    shapes = [weight.shape for weight, bias in layers if weight.ndim == 2 and bias is not None]
    is_chain = all(before[0] == after[1] for before, after in pairwise(shapes))
    if not shapes or len(shapes) < len(layers) or not is_chain or shapes[-1][0] != 1:
        raise InputError(f"{file} is no aesthetic predictor: linear layers that end in one number are expected")
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers if bias is not None]


def _load_clip(folder: Path) -> Any:
    """A CLIPModel whose tensors all come from the folder's files; InputError where one is missing or left over."""
    import torch
    from safetensors import SafetensorError
    from transformers import CLIPModel, logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        model, report = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"the weights in {folder} cannot be read as its config.json says ({reason})") from error
    strangers = (name for name in report["unexpected_keys"] if not name.endswith("position_ids"))  # old files have them
    for kind, names in (("is missing", report["missing_keys"]), ("is not expected", strangers)):
        if name := min(names, default=None):
            raise InputError(f"{folder}: {name} {kind}: the weights do not belong to its config.json")
    return model.eval()


class ClipScorer:
    """CLIP with the aesthetic predictor on top, on one core of the CPU."""

    def __init__(self, options: NetworkOptions) -> None:
        import torch

        assert options.clip is not None
        torch.set_num_threads(1)  # the other cores have files of their own
        self._folder = options.clip
        self._model = _load_clip(options.clip)
        self._layers = _read_layers(options.aesthetic) if options.aesthetic else None
        self.side: int = self._model.config.vision_config.image_size

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._folder, local_files_only=True)

    def scores(self, frames: np.ndarray, caption: str | None) -> dict[str, float | None]:
        """Columns for one clip.

        score_aesthetic: mean over the frames of the linear layers on the unit embedding (LAION-Aesthetics), about 1 to
        10. score_clip: mean cosine between frames and caption (CLIPScore, Hessel et al. 2021, without its factor); None
        without a caption.

        Args:
            frames: uint8 (F, side, side, 3).
        """
        import torch

        with torch.inference_mode():
            images = self._unit_images(frames)
            columns: dict[str, float | None] = {}
            if self._layers is not None:
                values = images
                for weight, bias in self._layers:
                    values = torch.nn.functional.linear(values, torch.from_numpy(weight), torch.from_numpy(bias))
                columns["score_aesthetic"] = round(float(values.mean()), 6)
            fits = (images @ self._unit_text(caption)).mean() if caption else None
            return columns | {"score_clip": None if fits is None else round(float(fits), 6)}

    def _unit_images(self, frames: np.ndarray) -> "torch.Tensor":
        """float32 (F, C), each of length 1."""
        import torch

        pixels = (torch.from_numpy(frames).float() / 255 - torch.tensor(_MEAN)) / torch.tensor(_STD)
        vision = self._model.vision_model(pixel_values=pixels.permute(0, 3, 1, 2))
        return torch.nn.functional.normalize(self._model.visual_projection(vision.pooler_output), dim=-1)

    def _unit_text(self, caption: str) -> "torch.Tensor":
        """float32 (C,), of length 1; what is too long is cut off."""
        import torch

        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer([caption], truncation=True, max_length=longest, return_tensors="pt")
        text = self._model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return torch.nn.functional.normalize(self._model.text_projection(text.pooler_output)[0], dim=-1)


def with_network_scores(rows: list[ClipRow], path: Path, options: NetworkOptions) -> list[ClipRow]:
    """The clips of a file, those usable with the scores of three of their frames."""
    if options.clip is None or not any(row.is_usable for row in rows):
        return rows
    scorer = ClipScorer(options)
    try:
        with VideoReader(path, threads=1) as reader:
            known = reader.indexed
        scaled, square = sizes(known.info, f"{scorer.side}x{scorer.side}")
        with VideoReader(path, threads=1, size=scaled, known=known) as reader:
            return [_scored(row, reader, square, scorer) if row.is_usable else row for row in rows]
    except InputError as error:
        raise InputError(reason_of(error, path)) from error


def _scored(row: ClipRow, reader: VideoReader, square: tuple[int, int], scorer: ClipScorer) -> ClipRow:
    first, last = np.searchsorted(reader.timestamps, [row.start, row.end]).tolist()
    places = sorted({first + int((last - 1 - first) * share) for share in _SHOWN_AT})
    frames = np.stack([cropped(frame, square) for frame in reader.stream(places)])
    return replace(row, extra=row.extra | scorer.scores(frames, row.caption))
