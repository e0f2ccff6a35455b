"""The search for tiles, with made-up times; no GPU."""

from collections.abc import Mapping

import pytest
import torch

from t2v.evaluation import tuning
from t2v.evaluation.op_speed import LevelShape
from t2v.ops.triton.configs import AttentionConfig, Config, ConvConfig, attention_config, conv_config

CPU = torch.device("cpu")
KEY = "conv_i320_o320_p4096"


def task() -> tuning.Task:
    return tuning.Task(KEY, conv_config(320, 4096), lambda: torch.zeros(1))


def measure_by(times: Mapping[Config, float], other: float | None = 2.0):
    """A tile that is not among `times` takes `other`; with None it cannot run."""

    def measure(configs: Mapping[str, Config], rounds: int) -> dict[str, float]:
        found = {name: times.get(config, other) for name, config in configs.items()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    return measure


def test_search_climbs_to_the_best_tile() -> None:
    default = conv_config(320, 4096)
    step, best = ConvConfig(128, 64, 64, 8, 3), ConvConfig(128, 128, 64, 8, 3)
    found = tuning.search(task(), measure_by({default: 1.0, step: 0.9, best: 0.5}))
    assert (found.config, found.seconds, found.default_seconds, found.better) == (best, 0.5, 1.0, True)
    assert found.trials <= tuning.MAX_TRIALS


def test_search_keeps_the_default_where_nothing_is_faster_by_more_than_noise() -> None:
    default = conv_config(320, 4096)
    for seconds in (1.0, 1 - tuning.MIN_GAIN / 2):
        found = tuning.search(task(), measure_by({default: 1.0, ConvConfig(128, 64, 64, 8, 3): seconds}))
        assert (found.config, found.better) == (default, False)


def test_search_passes_over_tiles_that_cannot_run() -> None:
    default, best = conv_config(320, 4096), ConvConfig(64, 64, 64, 4, 3)
    found = tuning.search(task(), measure_by({default: 1.0, best: 0.7}, other=None))
    assert found.config == best


def test_search_trusts_the_last_comparison_more_than_the_first() -> None:
    default, lucky = conv_config(320, 4096), ConvConfig(128, 64, 64, 8, 3)

    def measure(configs: Mapping[str, Config], rounds: int) -> dict[str, float]:
        once = rounds == tuning.ROUNDS
        return {name: 0.5 if once and config == lucky else 1.0 for name, config in configs.items()}

    found = tuning.search(task(), measure)
    assert (found.config, found.better) == (default, False)


@pytest.mark.parametrize("num_frames", [4, 16, 76])
@pytest.mark.parametrize("backward", [False, True])
def test_neighbours_are_tiles_that_the_kernel_can_have(num_frames: int, backward: bool) -> None:
    default = attention_config(num_frames, 40, backward)
    key = tuning.attention_key(num_frames, 40, backward, biased=False)
    around = list(tuning.neighbours(key, default))
    assert len(around) >= 4
    assert all(isinstance(config, AttentionConfig) and config.FP == default.FP for config in around)
    assert default not in around


def test_outcomes_go_into_the_file_only_where_they_are_better() -> None:
    better = tuning.Outcome(KEY, ConvConfig(64, 64, 64, 4, 3), 0.5, 1.0, 9, True)
    same = tuning.Outcome(KEY, conv_config(320, 4096), 1.0, 1.0, 9, False)
    tiles = tuning.updated({"norm_c320": {"BC": 32, "num_warps": 4}}, better)
    assert tiles[KEY] == {"BM": 64, "BN": 64, "BK": 64, "num_warps": 4, "num_stages": 3}
    assert tuning.updated(tiles, same) == {"norm_c320": {"BC": 32, "num_warps": 4}}


def test_each_kernel_is_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    found = list(tuning.tasks((LevelShape(2, 32, 2), LevelShape(2, 32, 2)), 2, CPU))
    assert [task.key for task in found] == [
        "conv_i32_o32_p4", "norm_c32", "attention_forward_f2_d16", "attention_backward_f2_d16"
    ]  # fmt: skip


def test_a_tile_that_is_wrong_or_does_not_run_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from t2v.ops.triton import tuned

    good, wrong, failing = (ConvConfig(64, 64, 64, warps, 3) for warps in (1, 2, 4))

    def run() -> torch.Tensor:
        config = tuned.chosen(KEY, conv_config(320, 4096), torch.zeros(1))
        if config == failing:
            raise RuntimeError("out of resource: shared memory")
        return torch.full((3,), 2.0 if config == wrong else 1.0)

    measure = tuning.measure_on(CPU, tuning.Task(KEY, conv_config(320, 4096), run))
    assert measure({"good": good, "wrong": wrong, "failing": failing}, 2).keys() == {"good"}


def test_tasks_are_listed_before_any_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("out of resource: shared memory")

    for op in ("temporal_attention", "temporal_conv", "group_norm_silu"):
        monkeypatch.setattr(f"t2v.ops.functional.{op}", fail)
    found = list(tuning.tasks((LevelShape(2, 32, 2),), 2, CPU))
    assert len(found) == 4
    for task in found:
        with pytest.raises(tuning.DefaultFailed, match="shared memory"):
            tuning.measure_on(CPU, task)


def test_search_says_where_the_default_has_no_time() -> None:
    with pytest.raises(tuning.DefaultFailed):
        tuning.search(task(), lambda configs, rounds: {})
    with pytest.raises(tuning.DefaultFailed):
        tuning.search(task(), lambda configs, rounds: {"": 1.0} if "" in configs else {})
