"""Weights of published feature networks: named by the user, known by their hash, never fetched."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2v.errors import InputError
from t2v.models.base import load_state_dict
from t2v.models.pickle_file import load_pickle

OPTION = "--unpublished-weights"
TORCHSCRIPT = "i3d_torchscript"


@dataclass(frozen=True)
class Published:
    """Where the weights of a network lie in the user's folder, and what is known of the published file."""

    files: tuple[str, ...]  # the first that is there is taken
    sha256: str | None  # None: no hash is known that could be trusted
    source: str


PUBLISHED: Mapping[str, Published] = {
    "inception": Published(
        (
            "weights-inception-2015-12-05-6726825d.pth",
            "pt_inception-2015-12-05-6726825d.pth",
            "inception-2015-12-05.safetensors",
        ),
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "releases of torch-fidelity and pytorch-fid",
    ),
    TORCHSCRIPT: Published(
        ("i3d_torchscript.pt",),
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        "StyleGAN-V and fvd-comparison",
    ),
    "i3d_pretrained_400": Published(("i3d_pretrained_400.safetensors",), None, "VideoGPT and TATS, converted"),
    "alexnet": Published(
        ("alexnet-owt-7be5be79.pth", "alexnet-owt.safetensors"),
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        "torchvision",
    ),
    "lpips_alex": Published(
        ("alex.pth", "LPIPS_v0.1_alex-df73285e.pth", "lpips_alex.safetensors"),
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        "the package lpips 0.1.4, weights/v0.1",
    ),
    "clip": Published(
        ("clip-vit-base-patch32/pytorch_model.bin", "clip-vit-base-patch32/model.safetensors"),
        "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
        "the hub's openai/clip-vit-base-patch32, with config.json, vocab.json and merges.txt",
    ),
}


class Weights(dict[str, Tensor]):
    """Tensors by name; asking for one that is not there says that the file is of another network."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        super().__init__(tensors)
        self.path = path

    def __missing__(self, name: str) -> Tensor:
        raise InputError(f"{self.path} has no {name}: these are the weights of another network")


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights as found: what a result says of it."""

    path: Path
    sha256: str
    is_published: bool

    @property
    def record(self) -> dict[str, Any]:
        """For the protocol of a result."""
        return {"weights_sha256": self.sha256, "published": self.is_published}

    def tensors(self, device: torch.device) -> Weights:
        """Its tensors, in fp32. A pickle is opened for its tensors alone, and only if it is the published file."""
        if self.path.suffix == ".safetensors":
            tensors = load_state_dict(self.path)
        else:
            assert self.is_published, "find_weights refuses other pickles"
            tensors = load_pickle(self.path)
        return Weights({name: tensor.to(device, torch.float32) for name, tensor in tensors.items()}, self.path)

    def script(self, device: torch.device) -> torch.jit.ScriptModule:
        """The TorchScript program in it, which is code: only ever the published file."""
        assert self.is_published, "find_weights refuses other programs"
        return torch.jit.load(str(self.path), map_location=device).eval()


def missing_weights(folder: Path, networks: Sequence[str]) -> list[str]:
    """The files of networks of `PUBLISHED` that are not in the folder, each with its other names."""
    files = [PUBLISHED[network].files for network in networks]
    return [" or ".join(names) for names in files if not any((folder / name).is_file() for name in names)]


def find_weights(folder: Path, network: str, allow_unpublished: bool = False) -> WeightsFile | None:
    """The weights of a network of `PUBLISHED` in the user's folder; None where there are none.

    A file whose hash is not the published one is refused; with `allow_unpublished`, one in safetensors is taken, and
    results say so. Pickles and TorchScript are never opened but as published: they could hold something else.

    Raises:
        InputError: no such folder, or a file that is not the published one.
    """
    if not folder.is_dir():
        raise InputError(f"--weights: no folder {folder}")
    known = PUBLISHED[network]
    path = next((folder / name for name in known.files if (folder / name).is_file()), None)
    if path is None:
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == known.sha256:
        return WeightsFile(path, digest, True)
    reason = f"has SHA-256 {digest}, the published file {known.sha256 or 'none that is known'}"
    if path.suffix != ".safetensors":
        option = "" if allow_unpublished else f" and add {OPTION}"
        advice = "" if network == TORCHSCRIPT else f"; or convert it with `t2v convert`{option}"
        raise InputError(f"{path} {reason}: get it from {known.source} again{advice}")
    if not allow_unpublished:
        raise InputError(f"{path} {reason}: add {OPTION} to measure with it all the same, which the result will say")
    return WeightsFile(path, digest, False)
