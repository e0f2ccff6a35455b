"""The metrics of sets of videos: what each takes from a video, and the figures of all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from t2v.errors import InputError
from t2v.evaluation.clip_set import MeasuredClip
from t2v.evaluation.frame_metrics import Frames, sharpness
from t2v.evaluation.frechet import frechet_figure
from t2v.evaluation.inception_score import NUM_SPLITS, inception_score_figure
from t2v.evaluation.intervals import Figure, mean_figure
from t2v.evaluation.networks.i3d import I3D, MIN_FRAMES, to_i3d_input
from t2v.evaluation.networks.inception import InceptionV3
from t2v.evaluation.temporal_metrics import flicker, warping_error
from t2v.models.clip import ClipEmbedder
from t2v.models.published_weights import TORCHSCRIPT, WeightsFile, find_weights

Arrays = Mapping[str, NDArray[np.floating]]  # by name, the first axis is the videos
I3D_NETWORKS = (TORCHSCRIPT, "i3d_pretrained_400")
NETWORKS = (*I3D_NETWORKS, "inception", "clip")
FRAME_IS = "frame IS (Inception-v3)"  # never to be set beside the IS of videos, whose classifier is C3D


class Family(Protocol):
    """Metrics that share what they take from a video."""

    @property
    def wants_reference(self) -> bool:
        """Whether the reference is measured as well."""

    def extract(self, clip: MeasuredClip) -> dict[str, Any]:
        """What is kept of a video: numbers or arrays by name."""

    def figures(self, own: Arrays, reference: Arrays, seed: int) -> dict[str, tuple[Figure, dict[str, Any]]]:
        """Every metric's figure and the settings that it depends on; `reference` is empty where there is none."""


@dataclass(frozen=True)
class Pixels:
    """Metrics of one video that need no network, as means over videos."""

    wants_reference: bool = True

    def extract(self, clip: MeasuredClip) -> dict[str, Any]:
        found = {"sharpness": sharpness(clip.frames)}
        if len(clip.frames) > 1:
            found |= {"flicker": flicker(clip.frames), "warping error": warping_error(clip.frames)}
        return found

    def figures(self, own: Arrays, reference: Arrays, seed: int) -> dict[str, tuple[Figure, dict[str, Any]]]:
        settings = {"warping error": {"flow": "Farneback, of the video itself"}}
        names = [name for name in ("sharpness", "flicker", "warping error") if name in own]
        figures = {name: mean_figure(own[name], seed) for name in names}
        return {name: (figure, settings.get(name, {})) for name, figure in figures.items() if figure.n}


class FrechetVideo:
    """FVD in the class scores of I3D, by either family of public weights; a narrower network's is not called FVD."""

    wants_reference = True

    def __init__(self, network: str, weights: WeightsFile, device: torch.device) -> None:
        self.name, self.weights, self.device = network, weights, device
        if network == TORCHSCRIPT:
            script = weights.script(device)
            call = {"rescale": False, "resize": False, "return_features": True}
            self.scores: Callable[[torch.Tensor], torch.Tensor] = lambda frames: script(to_i3d_input(frames), **call)
            self.metric = f"FVD ({network})"
        else:
            self.scores = i3d = I3D(weights.tensors(device))
            self.metric = f"FVD ({network})" if i3d.is_full_size else f"Frechet distance ({network}, other widths)"

    @torch.inference_mode()
    def extract(self, clip: MeasuredClip) -> dict[str, Any]:
        if len(clip.frames) < MIN_FRAMES:
            raise InputError(f"FVD needs {MIN_FRAMES} frames of a video, got --num-frames {len(clip.frames)}")
        return {self.name: self.scores(_tensor(clip.frames[None], self.device)).float().cpu().numpy()}

    def figures(self, own: Arrays, reference: Arrays, seed: int) -> dict[str, tuple[Figure, dict[str, Any]]]:
        if not reference:
            return {}
        figure = frechet_figure(own[self.name], _flat(reference[self.name]), seed)
        settings = {
            "features": f"{own[self.name].shape[-1]} class scores",
            "input": "224 pixels, bilinear without antialiasing, centre",
        }
        return {self.metric: (figure, {**settings, **self.weights.record})}


class Pictures:
    """FID and inception score of all frames, in Inception-v3."""

    wants_reference = True

    def __init__(self, weights: WeightsFile, device: torch.device) -> None:
        self.weights, self.device = weights, device
        self.network = InceptionV3(weights.tensors(device))

    def extract(self, clip: MeasuredClip) -> dict[str, Any]:
        features, logits = self.network(_tensor(clip.frames, self.device))
        return {"inception_features": features.cpu().numpy(), "inception_logits": logits.cpu().numpy()}

    def figures(self, own: Arrays, reference: Arrays, seed: int) -> dict[str, tuple[Figure, dict[str, Any]]]:
        logits, settings = own["inception_logits"], {"input": "299 pixels as TensorFlow 1", **self.weights.record}
        splits = NUM_SPLITS if len(logits) >= NUM_SPLITS else 1
        found = {FRAME_IS: (inception_score_figure(logits, splits, seed), {"splits": splits, **settings})}
        if reference:
            figure = frechet_figure(own["inception_features"], _flat(reference["inception_features"]), seed)
            found["FID"] = (figure, {"features": "pooled, of all frames", **settings})
        return found


class TextFit:
    """How well frames fit their prompts, in CLIP."""

    wants_reference = False

    def __init__(self, folder: Path, weights: WeightsFile, device: torch.device) -> None:
        self.weights = weights
        self.embedder = ClipEmbedder.from_weights(folder, weights.tensors(device), str(weights.path))
        self.embedder.model.to(device)

    def extract(self, clip: MeasuredClip) -> dict[str, Any]:
        if clip.prompt is None:
            raise InputError(
                f"{clip.name} has no prompt, which CLIPSIM needs: give --prompts FILE, or a .txt of its name beside it"
            )
        cosines = self.embedder.pictures(clip.frames) @ self.embedder.texts([clip.prompt])[0]
        return {"clip_cosine": float(cosines.mean())}

    def figures(self, own: Arrays, reference: Arrays, seed: int) -> dict[str, tuple[Figure, dict[str, Any]]]:
        """CLIPSIM is the raw cosine (arXiv 2104.14806); the CLIP score is 100 times that, 0 at least."""
        figure = mean_figure(own["clip_cosine"], seed)
        assert figure.value is not None and figure.low is not None and figure.high is not None
        value, low, high = (100 * max(value, 0.0) for value in (figure.value, figure.low, figure.high))
        settings = {"model": self.embedder.name, **self.weights.record}
        return {"CLIPSIM": (figure, settings), "CLIP score": (Figure(value, low, high, figure.n), settings)}


@dataclass(frozen=True)
class Families:
    """The metrics whose weights are there, and a word on each whose are not."""

    chosen: Sequence[Family]
    left_out: Sequence[str] = field(default_factory=tuple)


def find_families(
    weights: Path | None,
    allow_unpublished: bool,
    num_frames: int,
    device: torch.device,
    networks: Sequence[str] = NETWORKS,
) -> Families:
    """Those of `networks` whose weights lie in the user's folder.

    Raises:
        InputError: weights that are not what their name says, see `find_weights`.
    """
    if weights is None:
        return Families((), ("FVD, FID, frame IS and CLIPSIM: no --weights FOLDER",))
    chosen: list[Family] = []
    left_out = []
    for network in networks:
        is_video = network in I3D_NETWORKS
        if is_video and num_frames < MIN_FRAMES:
            left_out.append(f"FVD ({network}): needs {MIN_FRAMES} frames")
            continue
        found = find_weights(weights, network, allow_unpublished)
        if found is None:
            left_out.append(f"{network}: no weights in {weights}")
        elif is_video:
            chosen.append(FrechetVideo(network, found, device))
        else:
            chosen.append(
                Pictures(found, device) if network == "inception" else TextFit(found.path.parent, found, device)
            )
    return Families(chosen, tuple(left_out))


def _tensor(frames: Frames, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device)


def _flat(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N, F, D) -> (N * F, D)."""
    return features.reshape(-1, features.shape[-1])
