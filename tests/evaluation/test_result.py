import dataclasses
import json

import numpy as np
import pytest

from t2v.errors import InputError
from t2v.evaluation.intervals import Figure, mean_figure, statistic_figure
from t2v.evaluation.result import Protocol, Result, compare

FVD = {"weights": "ab" * 32, "network": "i3d"}


def result(value=10.0, metrics=("fvd", "sharpness"), settings_of=None, **changes):
    protocol = Protocol(
        num_videos=8,
        num_frames=16,
        frame_stride=1,
        fps=8.0,
        size=(64, 64),
        codec={"videos": "h264", "reference": "ffv1"},
        reference={"split": "test", "num_videos": 9, "sha256": "00"},
        seeds={"bootstrap": 0},
        metrics={name: (settings_of or {"fvd": FVD, "sharpness": {}})[name] for name in metrics},
    )
    figures = {name: Figure(value, value - 1, value + 1, 8) for name in metrics}
    return Result(dataclasses.replace(protocol, **changes), figures, {"videos": "a"})


def test_a_result_is_read_back_whole(tmp_path):
    result().save(tmp_path / "a.json")
    read = Result.read(tmp_path / "a.json")
    assert read.figures == result().figures and read.subject == {"videos": "a"}
    assert [line.metric for line in compare(read, result())] == ["fvd", "sharpness"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"num_videos": 9}, "num_videos is 8 in the first and 9 in the second"),
        ({"num_frames": 32}, "num_frames is 16 in the first and 32"),
        ({"frame_stride": 2}, "frame_stride is 1 in the first and 2"),
        ({"fps": None}, "fps is 8.0 in the first and null"),
        ({"size": (64, 32)}, r"size is \[64, 64\] in the first and \[64, 32\]"),
        ({"codec": {"videos": "ffv1", "reference": "ffv1"}}, 'codec.videos is "h264" in the first and "ffv1"'),
        ({"reference": {"split": "train", "num_videos": 9, "sha256": "00"}}, 'reference.split is "test" in the'),
        ({"reference": None}, "reference is {"),
        ({"seeds": {"bootstrap": 1}}, "seeds.bootstrap is 0 in the first and 1"),
        ({"settings": {"steps": [*range(999)]}}, r"in the first and \[0, 1, 2, [0-9 ,]{0,80} \.\.\. in the second"),
        ({"prompts_sha256": "00"}, 'prompts_sha256 is null in the first and "00"'),
        ({"settings": {"steps": 3}}, "settings.steps is null in the first and 3"),
        ({"settings_of": {"fvd": {**FVD, "weights": "cd" * 32}, "sharpness": {}}}, 'metrics.fvd.weights is "abab'),
    ],
)
def test_results_of_different_protocols_are_refused(changes, difference):
    with pytest.raises(InputError, match=difference):
        compare(result(), result(**changes))


def test_what_only_one_result_measured_is_no_difference_of_the_protocol():
    (line,) = compare(result(), result(metrics=("sharpness",)))
    assert line.metric == "sharpness"
    with pytest.raises(InputError, match="no metric in common: fvd and sharpness"):
        compare(result(metrics=("fvd",)), result(metrics=("sharpness",)))


def test_apart_is_told_by_the_intervals():
    assert [compare(result(), result(value))[0].is_apart for value in (11.9, 12.1, 7.9, 8.1)] == [
        False,
        True,
        True,
        False,
    ]
    bare = Result(result().protocol, {name: Figure(1.0, None, None, 8) for name in ("fvd", "sharpness")})
    assert compare(result(), bare)[0].is_apart is None


def test_other_files_are_refused_in_a_line(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match="cannot read"):
        Result.read(path)
    for text, message in (("{", "no JSON"), ("[]", "no result"), ('{"format": "t2v evaluation 1"}', "damaged result")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            Result.read(path)
    result().save(path)
    content = json.loads(path.read_text())
    del content["metrics"]["fvd"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="damaged result"):
        Result.read(path)


def test_intervals_of_means_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    figures = [mean_figure(rng.normal(3, 2, 60), seed) for seed in range(100)]
    assert 88 <= sum(figure.low <= 3 <= figure.high for figure in figures) <= 100
    values = rng.normal(size=50)
    assert mean_figure(values, 1) == mean_figure(values, 1) != mean_figure(values, 2)
    assert mean_figure(np.array([np.nan, 2.0])) == Figure(2.0, 2.0, 2.0, 1)


def test_intervals_of_a_statistic_lie_around_it_and_are_as_wide_as_its_spread():
    """The variance, whose spread over sets of N normal values is known: 2 / (N - 1) squared, rooted."""
    values = np.random.default_rng(0).normal(size=400)
    figure = statistic_figure(values.var(), lambda chosen: float(values[chosen].var()), 400)
    assert figure.low < figure.value < figure.high and figure.n == 400
    assert (figure.high - figure.low) / 3.92 == pytest.approx(np.sqrt(2 / 399), rel=0.25)
