from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from t2v.errors import InputError
from t2v.pipelines.interpolation.baselines import Crossfade, Hold
from t2v.pipelines.interpolation.cut_list import mark_listed
from t2v.pipelines.interpolation.cuts import SourceFrame, drop_repeats, mark_cuts
from t2v.pipelines.interpolation.extension import extend_clip
from t2v.pipelines.interpolation.filling import fill_beyond, fill_gaps
from t2v.pipelines.interpolation.rate import RateOptions, multiply, num_output_frames, raise_rate


class Stamp:
    """Makes frames whose value tells their time, and remembers what it was asked."""

    def __init__(self, max_frames: int | None = None, per_second: float = 10.0) -> None:
        self.max_frames, self.per_second = max_frames, per_second
        self.calls: list[tuple[list[float], list[float]]] = []

    def __call__(self, known, known_times, times, /):
        self.calls.append((list(known_times), list(times)))
        assert self.max_frames is None or len(known) + len(times) <= self.max_frames
        return np.stack([np.full(known.shape[1:], round(time * self.per_second), np.uint8) for time in times])


def clip(num: int, fps: Fraction | int, values: list[int] | None = None) -> list[SourceFrame]:
    values = values or list(range(num))
    return [SourceFrame(k, k / Fraction(fps), np.full((8, 8, 3), values[k], np.uint8)) for k in range(num)]


def two_shots(first: int, second: int, fps: int = 8) -> list[SourceFrame]:
    """Noise pictures: every shot has its own hue and moves by a pixel a frame."""
    rng = np.random.default_rng(0)
    pictures = []
    for length, colour in ((first, (200, 40, 40)), (second, (40, 60, 220))):
        base = (rng.integers(0, 40, (32, 32, 3)) + np.array(colour) - 20).clip(0, 255).astype(np.uint8)
        pictures += [np.roll(base, k, axis=1) for k in range(length)]
    return [SourceFrame(k, Fraction(k, fps), picture) for k, picture in enumerate(pictures)]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Fraction(24), Fraction(60)),
        (Fraction(24000, 1001), Fraction(60)),
        (Fraction(24000, 1001), Fraction(60000, 1001)),
        (Fraction(16), Fraction(24)),
        (Fraction(8), Fraction(24)),
        (Fraction(30), Fraction(30)),
        (Fraction(30), Fraction(24)),
    ],
    ids=str,
)
def test_every_frame_is_at_its_rational_time(source: Fraction, target: Fraction) -> None:
    fill, frames = Stamp(per_second=100.0), clip(20, source)
    count = num_output_frames(20 / source, target)
    out = list(raise_rate(frames, count, fill, RateOptions(target)))
    assert len(out) == count == -(-20 * target // source)
    asked = sorted(time for _, times in fill.calls for time in times)
    expected = []
    for k, frame in enumerate(out):
        time = k / target
        if time >= 19 / source:
            assert frame.source == 19  # as a player shows it to the end
        elif (time * source).denominator == 1 or abs(time * source - round(time * source)) / source <= Fraction(
            1, 4000
        ):
            assert frame.source == round(time * source)
            assert np.array_equal(frame.picture, frames[frame.source].picture)
        else:
            assert frame.source is None
            expected.append(float(time))
    assert asked == expected
    if (source, target) == (24, 60):
        assert [frame.source for frame in out[:6]] == [0, None, None, None, None, 2]
        assert asked[:4] == [1 / 60, 2 / 60, 3 / 60, 4 / 60]


def test_times_of_a_variable_rate_are_kept() -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(6, 10)]
    frames = [SourceFrame(k, time, np.full((8, 8, 3), k, np.uint8)) for k, time in enumerate(times)]
    out = list(raise_rate(frames, 8, Stamp(), RateOptions(Fraction(10))))
    assert [frame.source for frame in out] == [0, 1, None, None, None, 2, 3, 3]


@pytest.mark.parametrize("on_cut", ["hold", "fade", "morph", "extrapolate"])
@pytest.mark.parametrize("lengths", [(6, 6), (2, 7), (1, 5), (9, 3)])
def test_frame_count_is_the_same_whatever_happens_at_a_cut(on_cut: str, lengths: tuple[int, int]) -> None:
    frames = two_shots(*lengths)
    fill = Stamp(max_frames=16)
    out = list(raise_rate(frames, 4 * len(frames), fill, RateOptions(Fraction(32), on_cut)))
    assert len(out) == 4 * len(frames)
    for k, frame in enumerate(out[:-3]):
        assert frame.source == (k // 4 if k % 4 == 0 else None)
        if frame.source is not None:
            assert np.array_equal(frame.picture, frames[k // 4].picture)
    cut = 4 * lengths[0]
    if lengths[0] > 1:
        assert [k for k, frame in enumerate(out) if frame.at_cut] == [cut - 3, cut - 2, cut - 1]
        before, after = frames[lengths[0] - 1].picture, frames[lengths[0]].picture
        if on_cut == "hold":
            assert [np.array_equal(out[cut - i].picture, before) for i in (3, 2, 1)] == [True, False, False]
            assert all(np.array_equal(out[cut - i].picture, after) for i in (2, 1))
        calls = [known for known, _ in fill.calls if known[-1] > known[0] and before is not None]
        across = [known for known in calls if known[0] <= (lengths[0] - 1) / 8 and known[-1] >= lengths[0] / 8]
        assert bool(across) == (on_cut == "morph")  # nothing else mixes two shots


class Onward:
    """Continues the steady change that it sees in the known frames, and remembers what it was asked."""

    def __init__(self, max_frames: int | None = None) -> None:
        self.max_frames = max_frames
        self.calls: list[tuple[list[int], list[float], list[float]]] = []

    def __call__(self, known, known_times, times, /):
        levels = known[:, 0, 0, 0].astype(float)
        self.calls.append((levels.astype(int).tolist(), list(known_times), list(times)))
        assert self.max_frames is None or len(known) + len(times) <= self.max_frames
        rate = np.diff(levels).mean() / np.diff(known_times).mean() if len(known) > 1 else 0.0
        new = levels[0] + rate * (np.array(times) - known_times[0])
        return np.stack([np.full(known.shape[1:], round(value), np.uint8) for value in new])


@pytest.mark.parametrize("max_frames", [None, 8, 6])
def test_at_a_cut_both_shots_can_go_on_to_its_middle(max_frames: int | None) -> None:
    """Each shot goes on as it moved, from up to four of its frames, and nothing of the other one is looked at."""
    frames = clip(12, 10, [*range(0, 60, 10), *range(200, 140, -10)])
    frames = [replace(frame, picture=frame.picture.repeat(4, 0).repeat(4, 1)) for frame in frames]
    fill, options = Onward(max_frames), RateOptions(Fraction(100), "extrapolate", cuts=(Fraction(6, 10),))
    out = list(raise_rate(frames, 120, fill, options))
    levels = [int(frame.picture[0, 0, 0]) for frame in out]
    assert [k for k, frame in enumerate(out) if frame.at_cut] == list(range(51, 60))
    assert levels[50:61] == [50, 51, 52, 53, 54, 205, 204, 203, 202, 201, 200]
    at_cut = [call for call in fill.calls if any(0.5 < time < 0.6 for time in call[2])]
    forward, backward = [c for c in at_cut if c[2][0] > c[1][-1]], [c for c in at_cut if c[2][0] < c[1][0]]
    assert len(forward) + len(backward) == len(at_cut)
    assert forward[0][0] == [20, 30, 40, 50] and backward[0][0] == [200, 190, 180, 170]
    assert all(max(known) < 100 for known, _, _ in forward) and all(min(known) > 100 for known, _, _ in backward)


def test_short_shots_go_on_from_what_they_have() -> None:
    frames = clip(4, 10, [50, 200, 190, 90])
    cuts = tuple(Fraction(k, 10) for k in (1, 3))
    fill = Onward(16)
    out = list(raise_rate(frames, 40, fill, RateOptions(Fraction(100), "extrapolate", cuts=cuts)))
    assert len(out) == 40 and [k for k, frame in enumerate(out) if frame.at_cut] == [*range(1, 10), *range(21, 30)]
    assert {tuple(known) for known, _, _ in fill.calls} == {(50,), (200, 190), (90,)}


def test_frames_beyond_are_made_nearest_first() -> None:
    known = np.stack([np.full((4, 4, 3), 100 + 10 * k, np.uint8) for k in range(6)])
    for times in ([1.6 + 0.1 * k for k in range(9)], [0.1 * k for k in range(9)]):
        fill = Onward(6)
        made = fill_beyond(fill, known, [1.0 + 0.1 * k for k in range(6)], times)
        assert made[:, 0, 0, 0].tolist() == [round(100 * time) for time in times]
        assert all(len(call[0]) == 4 and len(call[2]) <= 2 for call in fill.calls)
    assert not len(fill_beyond(Onward(), known, [0.0] * 6, []))


def test_listed_cuts_begin_at_the_next_frame() -> None:
    def cuts(*seconds: str) -> list[int]:
        return [f.index for f in mark_listed(clip(10, 10), [Fraction(s) for s in seconds]) if f.after_cut]

    assert cuts("0.3", "0.62") == [3, 7] and cuts("0.3004", "0.3") == [3] and cuts("0", "2") == [] and cuts() == []


def test_cuts_are_found_and_pans_and_flashes_are_not() -> None:
    assert [frame.after_cut for frame in mark_cuts(two_shots(5, 4))] == [False] * 5 + [True] + [False] * 3
    rng = np.random.default_rng(1)
    strip = rng.integers(0, 256, (32, 800, 3)).astype(np.uint8)
    pan = [SourceFrame(k, Fraction(k), strip[:, 20 * k : 20 * k + 32]) for k in range(30)]
    assert not any(frame.after_cut for frame in mark_cuts(pan))
    flash = clip(9, 8, [40] * 9)
    flash[4] = SourceFrame(4, flash[4].time, np.full((8, 8, 3), 255, np.uint8))
    assert not any(frame.after_cut for frame in mark_cuts(flash))


def test_repeats_are_made_anew_only_where_the_picture_goes_on() -> None:
    def kept(values: list[int]) -> list[int]:
        return [frame.index for frame in drop_repeats(clip(len(values), 8, values))]

    assert kept([0, 0, 1, 1, 2, 2, 3]) == [0, 2, 4, 6]
    assert kept([0, 1, 1, 1, 1, 2]) == [0, 1, 5]
    assert kept([0, 1, 1, 1, 1, 1, 2]) == list(range(7))  # stands still
    assert kept([0, 1, 2, 2]) == [0, 1, 2, 3]  # the end of the video
    out = list(raise_rate(clip(6, 8, [0, 0, 1, 1, 2, 2]), 6, Stamp(), RateOptions(Fraction(8), dedup=True)))
    assert [frame.source for frame in out] == [0, None, 2, None, 4, 5]
    out = list(raise_rate(clip(6, 8, [0, 0, 1, 1, 2, 2]), 6, Stamp(), RateOptions(Fraction(8))))
    assert [frame.source for frame in out] == list(range(6))


def test_windows_stay_within_what_the_method_takes() -> None:
    fill = Stamp(max_frames=16)
    out = list(raise_rate(clip(40, 8), 40 * 30, fill, RateOptions(Fraction(240))))
    assert len(out) == 1200 and all(len(known) + len(times) <= 16 for known, times in fill.calls)
    stamps = [frame.picture[0, 0, 0] for frame in out if frame.source is None]
    assert stamps == [round(k / 240 * 10) for k in range(39 * 30) if k % 30]


def test_a_long_video_is_read_as_it_is_written() -> None:
    read = 0

    def frames():
        nonlocal read
        for frame in clip(200, 8):
            read += 1
            yield frame

    ahead = [read - k // 2 for k, _ in enumerate(raise_rate(frames(), 400, Hold(), RateOptions(Fraction(16))))]
    assert max(ahead) < 16


@pytest.mark.parametrize(("num", "factor", "limit"), [(16, 5, 16), (4, 2, None), (3, 20, 8), (16, 3, 4)])
def test_multiply_is_the_rule_of_make_a_video(num: int, factor: int, limit: int | None) -> None:
    pictures = np.stack([frame.picture for frame in clip(num, 8)])
    out = multiply(pictures, factor, Stamp(limit), 8.0, lambda done, total: None)
    assert len(out) == (num - 1) * factor + 1 and np.array_equal(out[::factor], pictures)
    made = [k for k in range(len(out)) if k % factor]
    assert [out[k, 0, 0, 0] for k in made] == [round(k / factor / 8 * 10) for k in made]


def test_fill_gaps_puts_frames_at_their_places_however_long_the_gap() -> None:
    known = np.zeros((3, 4, 4, 3), np.uint8)
    times = [k / 50 for k in range(1, 200) if k != 100]
    out = fill_gaps(Stamp(8, 50.0), known, [0.0, 2.0, 4.0], times)
    assert out[:, 0, 0, 0].tolist() == [k for k in range(1, 200) if k != 100]


def test_extension_goes_both_ways_and_keeps_the_clip() -> None:
    calls = []

    class Nearest:
        max_frames: int | None = 7

        def __call__(self, known, known_times, times, /):
            calls.append((known[:, 0, 0, 0].tolist(), list(known_times), list(times)))
            return Hold()(known, known_times, times)

    pictures = [frame.picture for frame in clip(10, 4, list(range(50, 60)))]
    out = list(extend_clip(iter(pictures), Fraction(4), 5, 4, Nearest()))
    assert [frame.source for frame in out] == [None] * 5 + list(range(10)) + [None] * 4
    assert all(np.array_equal(out[5 + k].picture, pictures[k]) for k in range(10))
    values = [int(frame.picture[0, 0, 0]) for frame in out]
    assert values[:5] == [50] * 5 and values[-4:] == [59] * 4
    before, after = calls[0], calls[2]
    assert before[0] == [50, 51, 52, 53] and max(before[2]) < min(before[1])  # backward: times before those known
    assert after[0] == [56, 57, 58, 59] and min(after[2]) > max(after[1])
    assert calls[1][0] == [50, 50, 50, 50]  # what was made is gone on from


def test_baselines_between_and_beyond() -> None:
    known = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (0, 100, 200)])
    times = [-1.0, 0.25, 0.5, 1.75, 5.0]
    assert Hold()(known, [0.0, 1.0, 2.0], times)[:, 0, 0, 0].tolist() == [0, 0, 100, 200, 200]
    assert Crossfade()(known, [0.0, 1.0, 2.0], times)[:, 0, 0, 0].tolist() == [0, 25, 50, 175, 200]


def test_flow_moves_what_moves() -> None:
    pytest.importorskip("cv2")
    from t2v.pipelines.interpolation.baselines import Flow

    texture = np.random.default_rng(0).integers(0, 256, (64, 96, 1)).astype(np.float32).repeat(3, axis=2)
    from PIL import Image

    smooth = np.asarray(
        Image.fromarray(texture.astype(np.uint8)).resize((24, 16)).resize((96, 64), Image.Resampling.BICUBIC)
    )
    views = np.stack([smooth[:, 8 - k : 72 - k] for k in range(5)])  # a pixel to the right each time
    out = Flow()(views[[0, 4]], [0.0, 4.0], [1.0, 2.0, 3.0])
    inner = slice(12, -12)
    errors = [np.abs(out[k].astype(int) - views[k + 1])[inner, inner].mean() for k in range(3)]
    faded = Crossfade()(views[[0, 4]], [0.0, 4.0], [2.0])[0]
    assert max(errors) < 4 and errors[1] < 0.3 * np.abs(faded.astype(int) - views[2])[inner, inner].mean()


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="fps must be above 0"):
        RateOptions(Fraction(0))
    with pytest.raises(InputError, match="--on-cut is one of"):
        RateOptions(Fraction(8), "wipe")
