import numpy as np
import pytest

from t2v.evaluation.motion import RESOLUTION
from t2v.evaluation.verbs import FEATURES, VerbClassifier, features, leave_one_out_accuracy

POINTS = np.array([[0.0, 5.0], [1.0, 5.5], [10.0, 5.0], [11.0, 5.5]])
RESOLUTION_OF_POINTS = np.array([0.1, 0.1])
LABELS = ["standing", "standing", "running", "running"]


def test_features_take_periods_as_rates_and_the_unseen_as_zero():
    measures = dict.fromkeys(RESOLUTION, None) | {"bounce_period": 0.5, "path_speed": 3.0}
    values = dict(zip(FEATURES, features(measures), strict=True))
    assert (values["bounce_rate"], values["path_speed"], values["tilt"], values["sway_rate"]) == (2.0, 3.0, 0.0, 0.0)


def test_classifier_names_the_nearest_verb_in_units_of_spread():
    classifier = VerbClassifier.fit(POINTS * [1, 1000], LABELS, RESOLUTION_OF_POINTS)
    assert classifier.predict(np.array([[2.0, 5400.0], [9.0, 4900.0]])) == ["standing", "running"]


def test_classifier_counts_no_difference_below_the_resolution():
    points = np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 0.1], [9.0, 0.1]])
    classifier = VerbClassifier.fit(points, LABELS, np.array([3.0, 2.0]))
    assert classifier.predict(np.array([[1.0, 0.2]])) == ["standing"]


def test_nearer_than_rest_compares_with_standing_still():
    classifier = VerbClassifier.fit(POINTS, LABELS, RESOLUTION_OF_POINTS)
    points = np.array([[1.0, 5.0], [8.0, 5.0]])
    assert classifier.nearer_than_rest(points, "running").tolist() == [False, True]
    assert classifier.nearer_than_rest(points, "standing").tolist() == [True, False]
    assert classifier.nearer_than_rest(points, "flying") is None


def test_leave_one_out_accuracy():
    assert leave_one_out_accuracy(POINTS, LABELS, RESOLUTION_OF_POINTS) == 1
    crossed = np.array([[0.0], [10.0], [0.0], [10.0]])
    assert leave_one_out_accuracy(crossed, ["a", "a", "b", "b"], np.ones(1)) == 0
    assert leave_one_out_accuracy(POINTS[:3], LABELS[:3], RESOLUTION_OF_POINTS) == pytest.approx(2 / 3)
    assert leave_one_out_accuracy(POINTS[:1], LABELS[:1], RESOLUTION_OF_POINTS) is None
