from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.world.actors import actors_of
from data_tools.world.scenes import SCENES
from data_tools.world.world import is_held_out
from t2v.evaluation.sheet import contact_sheet, save_picture, strip

PROMPTS = Path(__file__).parents[2] / "configs/mini/heldout_prompts.txt"


def test_strip_takes_first_and_last_frame():
    frames = np.arange(16, dtype=np.uint8)[:, None, None, None]
    assert strip(frames, 6).ravel().tolist() == [0, 3, 6, 9, 12, 15]
    assert strip(frames[:2], 4).ravel().tolist() == [0, 0, 1, 1]


def test_contact_sheet_shows_every_frame_under_its_caption():
    strips = [np.full((3, 16, 24, 3), value, np.uint8) for value in (10, 200)]
    sheet = contact_sheet(["a robot", "a cat"], strips)
    assert (sheet == 10).all(-1).sum() == (sheet == 200).all(-1).sum() == 3 * 16 * 24
    first_row = np.flatnonzero((sheet == 10).all(-1).any(1))
    assert (sheet[: first_row[0]] < 100).any(), "no text above the first row"


def test_save_picture_writes_what_it_is_given(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_picture(picture, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_prompts_of_mini_are_pairs_never_trained_on():
    prompts = PROMPTS.read_text().splitlines()
    actors = {actor.name for actor in actors_of("small")}
    pairs = set()
    for prompt in prompts:
        (actor,) = actors.intersection(prompt.split())
        (scene,) = [scene.name for scene in SCENES if any(prompt.endswith(phrase) for phrase in scene.phrases)]
        assert is_held_out(actor, scene), prompt
        pairs.add((actor, scene))
    assert prompts[0] == "a robot dancing in Times Square"
    assert len(pairs) >= 8
