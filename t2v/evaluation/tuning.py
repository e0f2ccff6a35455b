"""The search for better tiles of the kernels on the GPU at hand: what `t2v tune` does."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from t2v.errors import InputError
from t2v.evaluation.op_speed import LevelShape, op_cases
from t2v.evaluation.timing import time_functions
from t2v.ops.triton.configs import NORM_CONFIG, Config, attention_config, conv_config
from t2v.ops.triton.tuned import attention_key, conv_key, norm_key, parse, trial

MIN_GAIN = 0.03  # share of the default's time by which another tile must be faster, to be more than noise
MAX_TRIALS = 24
ROUNDS, FINAL_ROUNDS = 8, 40
_MOVES = (
    ("PX", "QR"),
    ("PX",),
    ("QR",),
    ("W",),
    ("BM",),
    ("BN",),
    ("BK",),
    ("BC",),
    ("num_warps",),
)  # by factors of two

Measure = Callable[[Mapping[str, Config], int], Mapping[str, float]]


class DefaultFailed(Exception):
    """The table's tile does not run on this GPU, or not twice alike, so that there is nothing to compare with."""


@dataclass(frozen=True)
class Task:
    """A kernel to tune: its name, its tile, and a call that it dominates."""

    key: str
    default: Config
    run: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """What a search found; seconds of the last, interleaved comparison."""

    key: str
    config: Config
    seconds: float
    default_seconds: float
    trials: int
    better: bool


def tasks(levels: tuple[LevelShape, ...], num_frames: int, device: torch.device) -> Iterator[Task]:
    """The kernels at the sizes of a network, two videos at a time, in float16; the norm with its backward pass."""
    seen: set[str] = set()
    for level in levels:
        attention, conv, _, norm = op_cases((level,), 2, num_frames, torch.float16, device, ("triton",))
        c, head_dim, pixels = level.channels, level.channels // level.heads, level.size**2
        found = [
            Task(conv_key(c, c, pixels), conv_config(c, pixels), _forward(conv.functions, conv.inputs)),
            Task(norm_key(c), NORM_CONFIG, _backward(norm.functions, norm.inputs)),
        ]
        for backward, make in ((False, _forward), (True, _backward)):
            key = attention_key(num_frames, head_dim, backward, biased=False)
            default = attention_config(num_frames, head_dim, backward)
            found.append(Task(key, default, make(attention.functions, attention.inputs)))
        for task in found:
            if task.key not in seen:
                seen.add(task.key)
                yield task


def _forward(
    functions: Mapping[str, Callable[..., torch.Tensor]], inputs: tuple[torch.Tensor, ...]
) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return functions["triton"](*inputs)

    return run


def _backward(
    functions: Mapping[str, Callable[..., torch.Tensor]], inputs: tuple[torch.Tensor, ...]
) -> Callable[[], torch.Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]

    @cache  # made at the first run: the kernel may fail here
    def gradient() -> torch.Tensor:
        return torch.randn_like(functions["triton"](*inputs))

    def run() -> torch.Tensor:
        return torch.autograd.grad(functions["triton"](*leaves), leaves, gradient())[0]

    return run


def neighbours(key: str, config: Config) -> Iterator[Config]:
    """Tiles that differ by one move: a size doubled or halved, a stage more or less; only those the kernel can have."""
    sizes = dataclasses.asdict(config)
    moves = [{name: 2 * sizes[name] for name in names} for names in _MOVES if set(names) <= sizes.keys()]
    moves += [{name: sizes[name] // 2 for name in names} for names in _MOVES if set(names) <= sizes.keys()]
    if "num_stages" in sizes:
        moves += [{"num_stages": sizes["num_stages"] + step} for step in (1, -1)]
    for move in moves:
        try:
            yield parse(key, {**sizes, **move})
        except ValueError:
            continue


def search(task: Task, measure: Measure) -> Outcome:
    """Climb from the default to the fastest neighbour until there is none; then compare the two anew, side by side.

    Args:
        measure: seconds of named tiles, in so many rounds; a tile that cannot run, or is wrong, has none.

    Raises:
        DefaultFailed: the default has no time.
    """
    best, tried = task.default, {task.default: _of_default(measure({"": task.default}, ROUNDS), "")}
    while len(tried) < MAX_TRIALS:
        around = [config for config in neighbours(task.key, best) if config not in tried]
        for config in around[: MAX_TRIALS - len(tried)]:
            tried[config] = measure({"": config}, ROUNDS).get("", float("inf"))
        fastest = min(tried, key=lambda config: tried[config])
        if fastest == best:
            break
        best = fastest
    final = measure({"default": task.default, "best": best}, FINAL_ROUNDS)
    seconds, default_seconds = final.get("best", float("inf")), _of_default(final, "default")
    better = best != task.default and seconds < (1 - MIN_GAIN) * default_seconds
    found = (best, seconds) if better else (task.default, default_seconds)
    return Outcome(task.key, *found, default_seconds, len(tried), better)


def _of_default(seconds: Mapping[str, float], name: str) -> float:
    if name not in seconds:
        raise DefaultFailed("its results differ from run to run")
    return seconds[name]


def measure_on(device: torch.device, task: Task) -> Measure:
    """A measure of this task's tiles: a tile counts if it runs and its result is the default's, up to roundings.

    Raises:
        DefaultFailed: the default does not run.
    """

    def under(config: Config) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            with trial(task.key, config):
                return task.run()

        return run

    try:
        expected = under(task.default)()
    except InputError:
        raise
    except Exception as error:  # triton's, as in `_agrees`
        raise DefaultFailed(f"{type(error).__name__}: {error}".splitlines()[0]) from error

    def measure(configs: Mapping[str, Config], rounds: int) -> Mapping[str, float]:
        functions = {name: under(config) for name, config in configs.items()}
        working = {name: run for name, run in functions.items() if _agrees(run, expected)}
        return {name: timing.median for name, timing in time_functions(working, rounds, device).items()}

    return measure


def _agrees(run: Callable[[], torch.Tensor], expected: torch.Tensor) -> bool:
    try:
        error = (run() - expected).abs().max().item()
    except Exception:  # triton's: too much shared memory, too many registers, a tile that does not compile
        return False
    return error <= 8 * torch.finfo(expected.dtype).eps * expected.abs().max().item()


def updated(tiles: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """The tiles of a GPU after a search: a better one is in it, and none where the default is best."""
    others = {key: tile for key, tile in tiles.items() if key != outcome.key}
    return {**others, outcome.key: dataclasses.asdict(outcome.config)} if outcome.better else others
