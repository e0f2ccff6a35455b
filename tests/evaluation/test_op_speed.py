import pytest
import torch

from t2v.evaluation import op_speed
from t2v.evaluation.op_speed import LevelShape
from t2v.evaluation.timing import Roofline, Timing, time_functions

CPU = torch.device("cpu")
LEVELS = (LevelShape(4, 32, 2), LevelShape(2, 64, 4))


def test_functions_of_a_case_compute_the_same() -> None:
    cases = list(op_speed.op_cases(LEVELS, 2, 3, torch.float32, CPU, ("auto", "torch")))
    assert len(cases) == 4 * len(LEVELS)
    for case in cases:
        first, *others = (function(*case.inputs) for function in case.functions.values())
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)


def test_work_is_counted_from_the_shapes() -> None:
    attention, conv, *_ = op_speed.op_cases(LEVELS[:1], 2, 3, torch.float32, CPU, ("torch",))
    activation = 2 * 3 * 16 * 32
    assert attention.num_bytes == 4 * activation * 4  # query, key, value, output
    assert attention.flops == 2 * 2 * (2 * 16 * 2) * 3 * 3 * 16  # two products of 3 x 3 x 16 per pixel and head
    assert conv.flops == 2 * 3 * activation * 32


def test_measurements_have_each_function_in_each_mode() -> None:
    case = next(op_speed.op_cases(LEVELS[:1], 1, 2, torch.float32, CPU, ("torch",)))
    rows = list(op_speed.measure(case, 2, CPU, Roofline(1e9, 1e9)))
    assert [(row.mode, row.function) for row in rows] == [
        (mode, function) for mode in ("forward", "backward", "both") for function in ("reference", "torch")
    ]
    assert rows[0].speedup == 1
    assert [row.bytes_per_s * row.timing.median for row in rows[::2]] == pytest.approx(
        [case.num_bytes, 2 * case.num_bytes, 3 * case.num_bytes]
    )
    assert all(row.bytes_per_s > 0 for row in rows)


def test_backward_alone_runs_the_forward_pass_once() -> None:
    calls = []

    def square(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x * x

    counts = {}
    for mode in ("forward", "backward", "both"):
        case = op_speed.Case("square", (torch.ones(3),), {"square": square}, 0, 0, modes=(mode,))
        list(op_speed.measure(case, 4, CPU, Roofline(1e9, 1e9)))
        counts[mode] = len(calls)
        calls.clear()
    assert counts == {"forward": 5, "backward": 1, "both": 5}


def test_network_case_takes_both_networks() -> None:
    from t2v.models.unet import VideoUNetConfig

    config = VideoUNetConfig.from_dict(
        {**op_speed.MINI_UNET, "block_out_channels": (16, 16, 16), "norm_num_groups": 4, "cross_attention_dim": 8}
    )
    case = op_speed.network_case("unet", config, 2, 8, 1, torch.float32, CPU)
    shapes = {function(*case.inputs).shape for function in case.functions.values()}
    assert shapes == {(1, 4, 2, 8, 8)}


def test_every_function_runs_once_per_round_after_a_warm_up() -> None:
    calls: list[str] = []
    timings = time_functions({name: lambda name=name: calls.append(name) for name in "ab"}, 3, CPU)
    assert calls[:2] == ["a", "b"]
    assert calls.count("a") == calls.count("b") == 4
    assert all(isinstance(timing, Timing) and timing.p20 <= timing.median <= timing.p80 for timing in timings.values())


def test_floor_is_the_larger_of_memory_and_arithmetic() -> None:
    roofline = Roofline(bytes_per_s=10, flops_per_s=100)
    assert roofline.floor(50, 100) == pytest.approx(5)
    assert roofline.floor(50, 1000) == pytest.approx(10)
