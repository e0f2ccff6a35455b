import numpy as np
import pytest

from t2v.data.holding_back import hold_back, hold_back_clips
from t2v.errors import InputError


def test_hold_back_splits_once_and_for_all() -> None:
    training, validation = hold_back(20, 5)
    assert sorted(training + validation) == list(range(20)) and len(validation) == 5
    assert hold_back(20, 5) == (training, validation)
    assert np.ptp(validation) > 5  # not one end of the data
    with pytest.raises(InputError, match="num_validation=20"):
        hold_back(20, 20)


def test_clips_of_different_files_are_held_back_as_other_samples_are() -> None:
    assert hold_back_clips(range(20), 5) == hold_back(20, 5)
    assert hold_back_clips(range(20), 0) == (list(range(20)), [])
    with pytest.raises(InputError, match="num_validation=20: set it lower"):
        hold_back_clips(range(20), 20)


@pytest.mark.parametrize(("count", "held_back"), [(1, 0), (2, 1), (7, 1), (100, 10), (500, 16)])
def test_a_tenth_of_the_clips_is_held_back_where_nothing_is_said(count: int, held_back: int) -> None:
    training, validation = hold_back_clips(range(count), None)
    assert (len(training), len(validation)) == (count - held_back, held_back)


def test_clips_of_one_file_stay_on_one_side() -> None:
    files = [number // 5 for number in range(100)]
    training, validation = hold_back_clips(files, 8)
    assert len(validation) == 8 and len(training) == 90
    assert not {files[i] for i in training} & {files[i] for i in validation}
    for few in ([0] * 100, [number // 50 for number in range(100)]):  # whole files would be a waste
        training, validation = hold_back_clips(few, 8)
        assert (len(training), len(validation)) == (92, 8)
