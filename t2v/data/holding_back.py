"""Which samples are held back from training: the same for the same data, whatever the seed."""

from collections import Counter
from collections.abc import Hashable, Sequence

import torch

from t2v.errors import InputError

Split = tuple[list[int], list[int]]  # (training, validation) indices, each ascending

_MAX_UNSET = 16  # clips, where the number is left open


def hold_back(count: int, num_validation: int) -> Split:
    """Split 0..count-1.

    Raises:
        InputError: nothing is left to train on.
    """
    if num_validation >= count:
        raise InputError(
            f"data: {count} samples are too few to hold back data.num_validation={num_validation}: set it lower"
        )
    order = _order(count)
    return sorted(order[num_validation:]), sorted(order[:num_validation])


def hold_back_clips(files: Sequence[Hashable], num_validation: int | None) -> Split:
    """Split clips, given the file of each, so that no file has clips on both sides.

    Where whole files would keep more than a tenth of the clips from both sides, single clips are held back.

    Args:
        num_validation: None: a tenth, at least one where there are two, and at most 16.

    Raises:
        InputError: nothing is left to train on.
    """
    count = len(files)
    if num_validation is None:
        num_validation = min(_MAX_UNSET, -(-count // 10), count - 1)
    sizes = Counter(files)
    names, held, num_held = list(sizes), set[Hashable](), 0
    for place in _order(len(names)):
        if num_held >= num_validation:
            break
        held.add(names[place])
        num_held += sizes[names[place]]
    training = [index for index, file in enumerate(files) if file not in held]
    validation = [index for index, file in enumerate(files) if file in held][:num_validation]
    if not training or count - len(training) - len(validation) > count // 10:
        return hold_back(count, num_validation)
    return training, validation


def _order(count: int) -> list[int]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
