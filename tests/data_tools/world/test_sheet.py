import numpy as np
import pytest

from data_tools.world.scenes import SCENES
from data_tools.world.sheet import contact_sheet, motion_strips, save_sheet
from data_tools.world.verbs import VERBS
from t2v.errors import InputError


def test_contact_sheet_has_a_row_per_scene_and_a_column_per_verb(world):
    sheet = contact_sheet(world, 0)
    assert sheet.shape == (128 * len(SCENES), 128 * len(VERBS), 3)
    assert np.array_equal(sheet, contact_sheet(world, 0))


def test_motion_strips_move(world):
    strips = motion_strips(world, 0, num_frames=3)
    assert strips.shape == (128 * len(VERBS), 3 * 128, 3)
    assert not np.array_equal(strips[:128, :128], strips[:128, 128:256])


@pytest.mark.parametrize(("name", "message"), [("sheet.jpg", ".png"), ("none/sheet.png", "does not exist")])
def test_save_sheet_refuses_wrong_paths(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        save_sheet(np.zeros((2, 2, 3), np.uint8), tmp_path / name)
    assert not list(tmp_path.iterdir())
