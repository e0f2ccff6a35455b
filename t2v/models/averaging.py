"""One network from several trainings of it: the mean of their weights (Wortsman et al. 2022, "Model soups")."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.base import load_config, load_header, load_state_dict, save_model, weight_files
from t2v.models.lora import LORA_FILE


@dataclass(frozen=True)
class Network:
    """What a network's folder holds."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    metadata: dict[str, str]  # of the header of its file

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor."""
        return {name: tuple(tensor.shape) for name, tensor in self.weights.items()}

    def save(self, folder: Path) -> None:
        """Write the folder, which is made if needed."""
        save_model(folder, self.config, self.weights, metadata=self.metadata)


def average(sources: Sequence[Path], on_source: Callable[[int, int], None] = lambda done, total: None) -> Network:
    """The network whose weights are the means of those of several, taken in fp64, in the dtypes of the first.

    Args:
        sources: at least two folders of one network each, `config.json` beside safetensors weights.
        on_source: is told how many of the sources are read, and of how many.

    Raises:
        InputError: fewer than two sources, a folder that cannot be read or that holds adapters of other layers as well,
            or one whose config, file header or tensors differ from the first one's.
    """
    if len(sources) < 2:
        raise InputError(f"a mean takes at least two networks, got {len(sources)}: name the folders of more trainings")
    networks: list[Network] = []
    for source in sources:
        network = _read(source)
        first = networks[0] if networks else network
        _check(f"{source}/config.json", network.config, first.config, sources[0])
        _check(f"{source}, header of its weights", _parsed(network.metadata), _parsed(first.metadata), sources[0])
        _check(f"{source}, shapes of its weights", network.shapes(), first.shapes(), sources[0])
        networks.append(network)
        on_source(len(networks), len(sources))
    means = {name: _mean([network.weights[name] for network in networks]) for name in first.weights}
    return Network(first.config, means, first.metadata)


def _read(folder: Path) -> Network:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no network's folder (config.json is missing): name one such as RUN/motion")
    if (folder / LORA_FILE).is_file():
        raise InputError(f"{folder} has adapters of spatial layers ({LORA_FILE}), and these have no mean: leave it out")
    return Network(load_config(folder), load_state_dict(folder), load_header(weight_files(folder)[0]).metadata)


def _parsed(metadata: Mapping[str, str]) -> dict[str, Any]:
    """A file's header with what is JSON in it read, as configs are."""
    found: dict[str, Any] = dict(metadata)
    for name, text in metadata.items():
        with suppress(ValueError):
            found[name] = json.loads(text)
    return found


def _check(what: str, found: Mapping[str, Any], first: Mapping[str, Any], named: Path) -> None:
    """Raise InputError, which names the first field that differs; `_diffusers_version` and such may differ."""
    for name, own, other in _differences(found, first):
        raise InputError(f"{what}: {name} is {own}, that of {named} {other}: average trainings of one configuration")


def _differences(found: Mapping[str, Any], first: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The fields, as in `motion.fps`, that are not the same, and both values; null is as good as missing."""
    for name in [*first, *found]:
        own, other = found.get(name), first.get(name)
        if isinstance(own, Mapping) and isinstance(other, Mapping):
            yield from ((f"{name}.{inner}", *values) for inner, *values in _differences(own, other))
        elif own != other and (name == "_class_name" or not name.startswith("_")):
            yield name, own, other


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).to(tensors[0].dtype)
