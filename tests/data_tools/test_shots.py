import numpy as np
import pytest

pytest.importorskip("scenedetect", reason="needs the extra curate")

from data_tools.analysis import watch
from data_tools.shots import ShotFinder, ShotOptions, Transition, shots
from t2v.data.video_io import VideoReader
from tests.data_tools.edits import HEIGHT, WIDTH, dissolved, faded, make_edit, matched, painted_shot
from tests.data_tools.media import DATA, needs_data

SINGLE_SHOTS = (
    "asl_again.mkv asl_learn.mkv toy_frog.mp4 toy_pig.webm toy_rabbit.mp4 basketball_gym.mp4 bear_vp9.webm bottles.mp4 "
    "car_turn.mp4 carphone_pristine.mp4 cars_topdown.mp4 chaplin.mp4 cockatoo.mp4 crystal_flower.webm eye_makeup.avi "
    "flipping_pancake.mkv moonwalk.mp4 plane_failing_audio.mp4 pool_net.mp4 rabbit_watermelon.mp4 wolf.mp4 bbb_720p.mp4"
)


def _transitions(frames):
    finder = ShotFinder(ShotOptions())
    for frame in frames:
        finder.add(frame)
    return finder.transitions(25)


def _figures(source, joins, num):
    """Precision and recall of hard cuts (to the frame), recall of gradual ones, and gradual ones that are none."""
    found = true = hits = gradual = met = false = 0
    for number in range(num):
        rng = np.random.default_rng([7, number])
        edit = make_edit(rng, source, tuple(rng.choice(joins, 3)))
        transitions = _transitions(edit.frames)
        inside = [t for t in transitions if any(start <= t.start and t.end <= end + 1 for start, end in edit.fades)]
        cuts = [t.start for t in transitions if t.kind == "cut" and t not in inside]
        found, true, hits = found + len(cuts), true + len(edit.cuts), hits + matched(cuts, edit.cuts, 0)
        soft = [t for t in transitions if t.kind != "cut"]
        gradual += len(edit.fades)
        met += sum(any(_overlap(t, fade) for t in soft) for fade in edit.fades)
        false += sum(not any(_overlap(t, fade) for fade in edit.fades) for t in soft)
    return hits / max(1, found), hits / max(1, true), met / max(1, gradual), false


def _overlap(transition, fade):
    return min(transition.end, fade[1]) > max(transition.start, fade[0])


def test_painted_edits_are_split_at_their_hard_cuts_and_fades():
    precision, recall, gradual, false = _figures(painted_shot, ("cut", "fade"), 10)
    assert precision >= 0.95 and recall >= 0.95 and gradual >= 0.9 and false == 0


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("joins", [("cut",), ("cut", "fade"), ("cut", "dissolve")], ids=str)
def test_200_edits_of_real_and_painted_shots(joins, capsys):
    pool = []
    for name in SINGLE_SHOTS.split():
        with VideoReader(DATA / "videos" / name, size=(WIDTH, HEIGHT)) as reader:
            pool.append(reader.frames(range(min(reader.num_frames, 160))))
    order = iter(
        int(i) for i in np.random.default_rng(0).permuted(np.tile(np.arange(len(pool)), (2000, 1)), axis=1).flat
    )

    def real_shot(rng, num_frames):
        clip = pool[next(order)]
        start = int(rng.integers(0, max(1, len(clip) - num_frames)))
        return [frame.copy() for frame in clip[start : start + num_frames]]

    for name, source in (("painted", painted_shot), ("real", real_shot)):
        precision, recall, gradual, false = _figures(source, joins, 100)
        with capsys.disabled():
            print(f"\n{name} {joins}: P {precision:.3f} R {recall:.3f}, gradual {gradual:.3f}, false gradual {false}")
        assert precision >= 0.95 and recall >= 0.95


@needs_data
@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("bikes_city.mp4", [30, 76, 137, 187, 242]),
        ("bbb_1080p60.mp4", [21]),
        ("counter_3colours.mp4", [10, 20]),
        ("nasa_13013.mp4", [202]),
        ("asl_book.mkv", []),
        ("bear_vp9.webm", []),
    ],
)
def test_hard_cuts_of_real_videos(name, cuts):
    finder = ShotFinder(ShotOptions())
    fps = float(watch(DATA / "videos" / name, [finder]).info.fps)
    assert [t.start for t in finder.transitions(fps) if t.kind == "cut"] == cuts


@needs_data
def test_gradual_transitions_of_a_real_video():
    """Cuts at 201 and 382 by its makers: fades through black, then a dissolve, then a fade to black."""
    finder = ShotFinder(ShotOptions())
    watch(DATA / "videos/autumn_3scenes.mp4", [finder])
    found = [t for t in finder.transitions(30) if t.kind != "cut"]
    assert [t.kind for t in found] == ["fade", "fade", "dissolve", "fade"]
    assert found[0].start <= 201 <= found[0].end and found[1].start <= 382 <= found[1].end


def _two_shots():
    rng = np.random.default_rng(3)
    return painted_shot(rng, 50), painted_shot(rng, 50)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_flash_is_no_cut(length):
    shot, _ = _two_shots()
    for i in range(20, 20 + length):
        shot[i] = (shot[i] * 0.2 + 204).astype(np.uint8)
    assert _transitions(shot) == []


def test_a_change_of_colour_alone_is_a_cut():
    frames = [
        np.full((HEIGHT, WIDTH, 3), color, np.uint8) for color in ((90, 90, 120), (140, 90, 80)) for _ in range(20)
    ]
    for frame in frames:
        frame[60:80, 50:200] = 255
    assert _transitions(frames) == [Transition(20, 20, "cut")]


def test_fades_and_dissolves_are_left_out():
    before, after = _two_shots()
    (fade,) = _transitions(faded(before, after, 12))
    assert fade.kind == "fade" and abs(fade.start - 38) <= 2 and abs(fade.end - 62) <= 2
    rng = np.random.default_rng(5)
    still = [[painted_shot(rng, 1)[0]] * 50 for _ in range(2)]
    (dissolve,) = _transitions(dissolved(*still, 12))
    assert dissolve.kind == "dissolve" and abs(dissolve.start - 38) <= 2 and abs(dissolve.end - 50) <= 2
    finder = ShotFinder(ShotOptions(gradual=False))
    for frame in dissolved(*still, 12):
        finder.add(frame)
    assert finder.transitions(25) == []


def test_a_dark_shot_between_hard_cuts_stays():
    before, after = _two_shots()
    frames = before + [np.zeros_like(before[0])] * 40 + after
    assert [(t.start, t.end) for t in _transitions(frames)] == [(50, 50), (90, 90)]


def test_shots_lie_between_the_transitions():
    transitions = [Transition(0, 4, "fade"), Transition(10, 10, "cut"), Transition(20, 30, "dissolve")]
    assert shots(transitions, 40) == [(4, 10), (10, 20), (30, 40)]
    assert shots([], 5) == [(0, 5)] and shots([Transition(0, 5, "fade")], 5) == []
