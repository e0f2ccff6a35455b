import pytest
import torch

pytest.importorskip("diffusers")

from tests.benchmarks import op_cases, ops

CPU = torch.device("cpu")
LEVEL = op_cases.SIZES["tiny"].levels[0]


def outputs(case: op_cases.Case) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {name: function(*case.inputs) for name, function in case.functions.items()}


def test_peers_of_the_ops_compute_the_same() -> None:
    attention, conv, *_ = op_cases.op_cases(LEVEL, 3, torch.float32, CPU)
    for case in (attention, conv):
        first, *others = outputs(case).values()
        assert len(others) == 2
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)


def test_modules_take_and_give_the_same_shapes() -> None:
    for case in op_cases.module_cases(LEVEL, 3, torch.float32, CPU):
        found = outputs(case)
        assert any(name.startswith("t2v") for name in found) and any(name.startswith("diffusers") for name in found)
        assert {out.shape for out in found.values()} == {case.inputs[0].shape}


@pytest.mark.skipif(not op_cases.HAS_MAKE_A_VIDEO, reason="needs make-a-video-pytorch (pip install --no-deps)")
def test_make_a_video_is_among_the_peers() -> None:
    for case in op_cases.module_cases(LEVEL, 3, torch.float32, CPU):
        assert any(name.startswith("make-a-video-pytorch") for name in case.functions)


def test_a_peer_that_cannot_run_is_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("invalid configuration argument")

    case = op_cases.Case("square", (torch.ones(2),), {"broken": broken, "good": torch.square}, 0, 0)
    assert list(ops.runnable(case).functions) == ["good"]
    assert "square, broken cannot run: invalid configuration argument" in capsys.readouterr().out


def test_cases_go_on_after_a_place() -> None:
    made = []

    def portion(name: str) -> op_cases.Portion:
        def cases():
            made.append(name)
            for index in range(3):
                yield op_cases.Case(f"{name}{index}", (), {}, 0, 0)

        return op_cases.Portion(cases, 1.0)

    found = list(ops.enumerate_cases([portion("a"), portion("b"), portion("c")], (1, 2)))
    assert [(place, case.name) for place, _, case in found] == [
        ([1, 2], "b2"), ([2, 0], "c0"), ([2, 1], "c1"), ([2, 2], "c2")
    ]  # fmt: skip
    assert made == ["b", "c"]
