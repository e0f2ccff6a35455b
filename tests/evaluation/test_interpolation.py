import numpy as np
import pytest

from t2v.evaluation import interpolation
from t2v.evaluation.frame_metrics import bootstrap_mean, flow_error, psnr, sharpness
from t2v.evaluation.interpolation import InterpolationRequest, _Clip, evaluate_interpolation, summarise
from t2v.evaluation.interpolation_gates import gates
from t2v.evaluation.labelled_clips import ActorPictures, labelled_clips
from t2v.evaluation.matching import ActorPath
from t2v.pipelines.interpolation.baselines import Crossfade, Hold


class Oracle:
    """Knows the clips: what a perfect method would make."""

    max_frames: int | None = None

    def __init__(self, clips, num_frames: int, fps: float) -> None:
        self.clips = [clip.read(num_frames, fps)[0] for clip in clips]
        self.fps = fps

    def __call__(self, known, known_times, times, /):
        first = round(known_times[0] * self.fps)
        mine = next(clip for clip in self.clips if np.array_equal(clip[first], known[0]))
        return mine[[round(time * self.fps) for time in times]]


def test_psnr_sharpness_and_intervals():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    assert psnr(truth, truth) == 60 and psnr(truth + 10, truth) == pytest.approx(10 * np.log10(255**2 / 100))
    grain = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    blurred = ((grain[:, :-1].astype(int) + grain[:, 1:]) / 2).astype(np.uint8)
    assert sharpness(truth) == 0 and sharpness(blurred) < sharpness(grain)
    values = np.append(np.random.default_rng(0).normal(5, 1, 200), np.nan)
    found = bootstrap_mean(values)
    assert found["n"] == 200 and found["low"] < 5.1 and found["high"] > 4.9 and found["high"] - found["low"] < 0.4
    assert bootstrap_mean(np.array([np.nan])) == {"mean": None, "low": None, "high": None, "n": 0}


def test_flow_error_is_zero_for_the_truth_and_grows_with_held_frames(clips_folder):
    pytest.importorskip("cv2")
    frames, _ = labelled_clips(clips_folder)[1].read(8, 8.0)
    assert flow_error(frames, frames) == 0
    held = frames.copy()
    held[1:-1] = frames[0]
    assert flow_error(held, frames) > 0.05


def test_a_perfect_method_passes_and_baselines_are_told_apart(clips_folder, pictures_folder):
    clips, pictures = labelled_clips(clips_folder)[:2], ActorPictures(pictures_folder)
    methods = {"diffusion": Oracle(clips, 4, 4.0), "crossfade": Crossfade(), "hold": Hold()}
    request = InterpolationRequest(clips, pictures, methods, 4, 4.0, round_trip=lambda frames: frames)
    seen = []
    report = evaluate_interpolation(request, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2, 2)
    assert report["buckets"].keys() == {"static", "large"}
    large = report["buckets"]["large"]
    assert large["diffusion"]["psnr"]["mean"] == 60 and large["crossfade"]["psnr"]["mean"] < 30
    assert large["diffusion"]["actor_error"]["mean"] < 1 < large["hold"]["actor_error"]["mean"]
    assert large["autoencoder"]["psnr"]["n"] == 1 and [line["curved"] for line in report["clips"]] == [False] * 2
    assert report["straight_line"] == {"mean": None, "low": None, "high": None, "n": 0}
    curved = summarise([{**line, "curved": True, "straight_line": 3.0} for line in report["clips"]], list(methods))
    assert curved["straight_line"]["mean"] == 3 and curved["straight_line"]["n"] == 2
    assert report["extension"]["diffusion"]["forward"]["mean"] > report["extension"]["hold"]["forward"]["mean"]
    assert report["extension"]["diffusion"]["backward"]["mean"] > report["extension"]["hold"]["backward"]["mean"]
    assert report["gates"] and all(gate["passed"] for gate in report["gates"])
    as_if = {**report, "buckets": {"large": {**large, "diffusion": large["crossfade"]}}}
    assert not all(gate["passed"] for gate in gates(as_if))


def test_what_a_straight_line_misses():
    still = np.zeros(5)
    jump = ActorPath(np.linspace(0, 80, 5), np.array([50.0, 30, 20, 30, 50]), still, still, np.ones(5))
    clip = _Clip(np.zeros((5, 128, 128, 3), np.uint8), jump, 64 / 128)
    np.testing.assert_allclose(clip.distance_off_line, [0, 10, 15, 10, 0], atol=1e-12)
    assert clip.is_curved and clip.straight_line_error == 10
    late = ActorPath(np.array([0.0, 0, 0, 0, 80]), still, still, still, np.ones(5))
    np.testing.assert_allclose(_Clip(clip.frames, late, 1.0).distance_off_line, [0, 20, 40, 60, 0])
    assert _Clip(clip.frames, late, 1.0).straight_line_error == 40


def test_ends_of_another_clip_are_summed_up_though_the_first_clip_has_none(clips_folder, pictures_folder, monkeypatch):
    monkeypatch.setattr(interpolation, "_rates", lambda request, fill: {})
    clips, pictures = labelled_clips(clips_folder)[:2], ActorPictures(pictures_folder)
    request = InterpolationRequest(clips, pictures, {"hold": Hold()}, 4, 4.0, swapped="hold")
    report = evaluate_interpolation(request)
    assert "swapped" not in report["clips"][0]["methods"]
    large = report["buckets"]["large"]
    assert large["swapped"]["psnr"]["n"] == 1 and large["swapped"]["psnr"]["mean"] < large["hold"]["psnr"]["mean"]
    line = {**report["clips"][1], "bucket": "medium"}
    line["methods"] = {**line["methods"], "diffusion": line["methods"]["hold"]}
    line["extension"] = {**line["extension"], "diffusion": line["extension"]["hold"]}
    found = [gate for gate in summarise([line], ["diffusion", "hold"])["gates"] if "another clip" in gate["gate"]]
    assert len(found) == 1 and found[0]["value"] == large["swapped"]["psnr"]["mean"]
