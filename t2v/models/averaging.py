"""One network from several of the same origin: the mean of their weights (Wortsman et al. 2022, "Model soups")."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.base import check_state_dict, load_config, load_state_dict, save_model


def average_weights(
    sources: Sequence[Path], target: Path, on_source: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write the mean of the weights of networks that were trained on from the same weights.

    The means are taken in fp64 and stored in the dtypes of the first source; what is not a floating-point number is
    the first one's.

    Args:
        sources: at least two folders of one network each, `config.json` beside safetensors weights.
        target: folder to write, config of the first source included; made if needed.
        on_source: is told how many of the sources are read, and of how many.

    Raises:
        InputError: fewer than two sources, a folder that cannot be read, or one whose config or tensors differ from the
            first one's; nothing is written.
    """
    if len(sources) < 2:
        raise InputError(f"a mean takes at least two networks, got {len(sources)}: name the folders of more trainings")
    first, config = sources[0], _config(sources[0])
    for source in sources[1:]:
        _check_config(first, config, source)
    weights: list[dict[str, torch.Tensor]] = []
    for source in sources:
        weights.append(load_state_dict(source))
        check_state_dict(weights[0], weights[-1], str(source))
        on_source(len(weights), len(sources))
    save_model(target, config, {name: _mean([one[name] for one in weights]) for name in weights[0]})


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).to(tensors[0].dtype)


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no network's folder (config.json is missing): name one such as RUN/motion")
    return load_config(folder)


def _check_config(first: Path, config: dict[str, Any], other: Path) -> None:
    own = _config(other)
    for name in [*config, *own]:
        if config.get(name) != own.get(name):
            raise InputError(
                f"{other} has another {name} in config.json than {first}: networks of one make have a mean"
            )
