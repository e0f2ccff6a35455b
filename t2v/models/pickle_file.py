"""Tensors of pickled checkpoints (.ckpt, .bin, .pt, .pth), without running what else is in them.

`torch.load(weights_only=True)` builds tensors and plain containers and nothing else. Only `t2v convert` and
published weights of known hash come here.
"""

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError

WRAPPERS = ("state_dict", "model", "params")  # where training programs put the weights
PARALLEL = "module."  # prefix of every name where a model was saved from inside DistributedDataParallel
FORBIDDEN = re.compile(r"GLOBAL (\S+)")


class _Ignored:
    """Stands for a class of a training program whose name, but nothing of whose content, is needed."""


# Files of Stable Diffusion's own training name this class among their callbacks.
_IGNORED: list[Any] = [(_Ignored, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]


def load_pickle(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a pickled checkpoint by name, on the CPU, none sharing memory.

    Raises:
        InputError: it asks for more than tensors (which is said), is broken, or has no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file at {path}: check the path")
    try:
        with torch.serialization.safe_globals(_IGNORED):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := FORBIDDEN.search(str(error)):
            raise InputError(
                f"{path} is refused: besides tensors it wants {found[1]}, which could run code; nothing was run. "
                "Get a safetensors version"
            ) from None
        raise InputError(f"{path} is truncated or no pickled checkpoint: download it again") from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is truncated or no pickled checkpoint ({reason}): download it again") from None
    weights = _tensors(content)
    if not weights:
        raise InputError(f"{path} holds no tensors by name: it is no checkpoint of a network")
    return weights


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    while isinstance(content, dict) and (inner := next((name for name in WRAPPERS if name in content), None)):
        if not isinstance(content[inner], dict):
            break
        content = content[inner]
    named = content.items() if isinstance(content, dict) else ()
    weights = {name: tensor for name, tensor in named if isinstance(name, str) and isinstance(tensor, torch.Tensor)}
    prefix = PARALLEL if all(name.startswith(PARALLEL) for name in weights) else ""
    return {name.removeprefix(prefix): tensor.detach().clone() for name, tensor in weights.items()}
