from pathlib import Path

import numpy as np
from PIL import Image

from t2v.training.validation import label_pictures, picture_grid, save_picture


def test_picture_grid_fills_rows_and_pads_with_black() -> None:
    pictures = np.stack([np.full((2, 3, 3), level, np.uint8) for level in (10, 20, 30)])
    grid = picture_grid(pictures, 2)
    assert grid.shape == (4, 6, 3)
    assert grid[::2, ::3, 0].tolist() == [[10, 20], [30, 0]]


def test_label_pictures_keeps_the_picture_and_writes_below() -> None:
    pictures = np.full((2, 20, 60, 3), 90, np.uint8)
    labelled = label_pictures(pictures, ["short", "a label of more than one line"])
    assert labelled.shape[0] == 2 and labelled.shape[1] > 20 + 2 * 12 and labelled.shape[2] == 60
    assert (labelled[:, :20] == 90).all()
    assert (labelled[:, 20:] < 100).any(axis=(1, 2, 3)).all()


def test_save_picture_leaves_only_the_picture(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    save_picture(tmp_path / "a.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert len(list(tmp_path.iterdir())) == 1
