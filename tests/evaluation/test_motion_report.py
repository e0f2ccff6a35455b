import json

import pytest

from t2v.evaluation.labelled_clips import ActorPictures, labelled_clips
from t2v.evaluation.motion import RESOLUTION
from t2v.evaluation.motion_report import MotionRequest, Observation, evaluate_motion, motion_report


def make_observation(verb, speed, bounce=0.0, seed=None):
    measures = dict.fromkeys(RESOLUTION, 0.0) | {"path_speed": speed, "vertical_range": bounce}
    errors = None if seed is not None else {"match": [0.5, 5.0], "centroid": [9.0, 9.0]}
    paths = {"match": measures, "centroid": measures} | ({} if errors is None else {"truth": measures})
    return Observation(verb, f"a robot {verb}", paths, 0.5, 4.0 if seed is None else 6.0, 1.0, seed, errors)


RENDERED = [
    make_observation("standing", 0.0),
    make_observation("standing", 1.0),
    make_observation("running", 24.0, 3.0),
    make_observation("running", 26.0, 3.0),
]


def test_motion_report_compares_generated_with_rendered():
    report = motion_report(RENDERED, [make_observation("running", 10.0, 3.0, seed=4)], {"model": "m"})
    running = report["verbs"]["running"]
    speed = running["measures"]["match"]["path_speed"]
    assert (speed["rendered"], speed["truth"], speed["generated"], speed["ratio"]) == (25, 25, 10, 0.4)
    assert speed["within"] is False
    assert running["verdict"]["match"]["outside"] == ["path_speed"]
    assert running["verdict"]["match"]["moves_like_verb"] is False
    assert report["frame_difference"]["ratio"] == 1.5
    assert report["protocol"]["seeds"] == [4]
    assert report["method_error_on_rendered"]["match"]["share_within_4_px"] == 0.5


def test_motion_report_accepts_what_is_within_tolerance():
    report = motion_report(RENDERED, [make_observation("running", 29.0, 4.9, seed=0)], {})
    verdict = report["verbs"]["running"]["verdict"]["match"]
    assert verdict == {"within_tolerance": True, "outside": [], "moves_like_verb": True, "share_like_verb": 1.0}
    assert report["verb_from_motion"]["match"]["generated"] == 1.0
    assert report["verbs"]["standing"]["verdict"]["match"]["within_tolerance"] is None


def test_evaluate_motion_finds_the_rendered_path(clips_folder, pictures_folder):
    request = MotionRequest(labelled_clips(clips_folder), ActorPictures(pictures_folder), 4, 8.0)
    steps = []
    report = evaluate_motion(request, [], None, {}, 0, lambda done, total: steps.append((done, total)))
    speed = report["verbs"]["running"]["measures"]["match"]["path_speed"]
    assert speed["rendered"] == pytest.approx(32, rel=0.1)
    assert speed["generated"] is None
    assert report["method_error_on_rendered"]["match"]["p90"] < 1
    assert report["verb_from_motion"]["match"]["rendered_leave_one_out"] == 1
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    json.dumps(report, allow_nan=False)
