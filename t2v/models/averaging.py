"""One network from several trainings of it: the mean of their weights (Wortsman et al. 2022, "Model soups")."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.base import check_state_dict, load_config, load_header, load_state_dict, save_model, weight_files
from t2v.models.lora import LORA_FILE


@dataclass(frozen=True)
class Network:
    """What a network's folder holds."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    metadata: dict[str, str]  # of the header of its file

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
        _check(f"{source}, header of its weights", network.metadata, first.metadata, sources[0])
        check_state_dict(first.weights, network.weights, str(source))
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


def _check(what: str, found: dict[str, Any], first: dict[str, Any], named: Path) -> None:
    """Raise InputError, which names the first field that is not the same; `_diffusers_version` and such may differ."""
    for name in [*first, *found]:
        is_note = name.startswith("_") and name != "_class_name"
        if found.get(name) != first.get(name) and not is_note:
            raise InputError(
                f"{what}: {name} is {found.get(name)!r}, that of {named} {first.get(name)!r}: "
                "average trainings of one configuration"
            )


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).to(tensors[0].dtype)
