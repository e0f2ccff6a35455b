import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import t2v
from data_tools.world.actors import actors_of
from data_tools.world.scenes import SCENES
from data_tools.world.verbs import VERBS
from t2v.errors import InputError
from t2v.evaluation.labelled_clips import labelled_clips
from t2v.evaluation.recogniser import NO_VERB, Recogniser, RecogniserConfig, load_recogniser, save_recogniser
from t2v.evaluation.recogniser_training import (
    ClipMemory,
    TrainingOptions,
    accuracy,
    augment,
    config_for,
    labels_of,
    train_recogniser,
    without_motion,
)

SHIPPED = Path(t2v.__file__).parent / "zoo" / "recogniser"
CONFIG = RecogniserConfig(("cat", "robot"), ("field",), ("running", "standing"), 4, 8.0, 32, 16, 8)


def make_recogniser(config=CONFIG):
    torch.manual_seed(0)
    return Recogniser(config).eval()


def make_video(num_frames=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 32, 32, 3), dtype=np.uint8)


def test_verb_is_seen_in_frame_differences_alone():
    recogniser, generator = make_recogniser(), torch.Generator().manual_seed(0)
    video = torch.rand((2, 4, 3, 16, 16), generator=generator) - 0.5
    elsewhere = video + torch.rand((2, 1, 3, 16, 16), generator=generator)
    torch.testing.assert_close(recogniser.see_motion(video), recogniser.see_motion(elsewhere))
    assert not torch.allclose(recogniser.see_motion(video), recogniser.see_motion(video[:, [0, 2, 1, 3]]))


def test_judge_names_what_it_knows_and_gives_features():
    judged = make_recogniser().judge(make_video())
    assert judged.actor in CONFIG.actors and judged.scene == "field" and judged.verb in (*CONFIG.verbs, NO_VERB)
    assert judged.features.shape == (CONFIG.appearance_features + CONFIG.motion_features,)
    with pytest.raises(AssertionError, match="trained for 4"):
        make_recogniser().judge(make_video(5))


def test_saved_recogniser_judges_alike(tmp_path):
    recogniser = make_recogniser()
    save_recogniser(recogniser, tmp_path, {"num_steps": 0})
    again = load_recogniser(tmp_path)
    assert again.config == CONFIG
    np.testing.assert_allclose(
        again.judge(make_video()).features, recogniser.judge(make_video()).features, rtol=0.02, atol=0.02
    )
    assert again.weights_sha256() == load_recogniser(tmp_path).weights_sha256() != recogniser.weights_sha256()


def test_load_refuses_what_is_no_recogniser(tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_recogniser(tmp_path)
    (tmp_path / "config.json").write_text('{"actors": []}')
    with pytest.raises(InputError, match="train-recogniser"):
        load_recogniser(tmp_path)
    save_recogniser(make_recogniser(), tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "width": 12}))
    with pytest.raises(InputError, match="belong to another config"):
        load_recogniser(tmp_path)


def test_training_learns_verbs_and_is_not_fooled_by_frozen_clips(clips_folder):
    clips = labelled_clips(clips_folder)
    memory = ClipMemory(replace(config_for(clips), num_frames=6, size=16, motion_size=32, width=8))
    for clip in clips:
        memory.add(clip)
    recogniser = train_recogniser(memory, TrainingOptions(num_steps=30, batch_size=12))
    found = accuracy(recogniser, memory)
    assert (found["num_clips"], found["verb"], found["actor"]) == (4, 1.0, 1.0)
    assert found["verb_frozen"] == 0.5, "a frozen clip is standing, whatever it was"


def test_training_is_a_function_of_the_seed(clips_folder):
    clips = labelled_clips(clips_folder)
    memory = ClipMemory(replace(config_for(clips), num_frames=6, size=16, motion_size=16, width=4))
    for clip in clips:
        memory.add(clip)
    options = TrainingOptions(num_steps=2, batch_size=2)
    hashes = [train_recogniser(memory, replace(options, seed=seed)).weights_sha256() for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("num_steps", [1, 2, 10, 11])
def test_training_may_be_short(clips_folder, num_steps):
    clips = labelled_clips(clips_folder)
    memory = ClipMemory(replace(config_for(clips), num_frames=6, size=16, motion_size=16, width=4))
    memory.add(clips[0])
    train_recogniser(memory, TrainingOptions(num_steps=num_steps, batch_size=2))


def test_without_motion_freezes_to_standing_and_shuffles_to_none():
    video = torch.arange(6.0)[:, None, None, None].expand(400, 6, 1, 2, 2)
    verbs = torch.zeros(400, dtype=torch.long)
    changed, labels = without_motion(video, verbs, CONFIG, torch.Generator().manual_seed(0))
    frozen = (changed.diff(dim=1) == 0).flatten(1).all(1)
    ordered = (changed.diff(dim=1) == 1).flatten(1).all(1)
    assert torch.equal(frozen, labels == CONFIG.verbs.index("standing"))
    assert torch.equal(ordered, labels == 0)
    assert 20 < (labels == len(CONFIG.verbs)).sum() < 100
    _, labels = without_motion(video, verbs + 1, CONFIG, torch.Generator().manual_seed(0))
    assert set(labels.tolist()) == {1}, "out of order, who stands still stands still"


def test_augment_follows_the_generator():
    video = torch.rand((3, 4, 3, 16, 16), generator=torch.Generator().manual_seed(0)) - 0.5
    first, again, other = (augment(video, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == video.shape and not torch.equal(first, video)


def test_clips_that_it_does_not_know_or_that_are_too_short_are_refused(clips_folder):
    clip = labelled_clips(clips_folder)[0]
    with pytest.raises(InputError, match="scene 'field', which the recogniser was not trained to know"):
        labels_of(clip, replace(CONFIG, scenes=("beach",)))
    with pytest.raises(InputError, match="8 frames at 8 fps, 16 are needed"):
        ClipMemory(replace(CONFIG, num_frames=16)).add(clip)


def test_shipped_recogniser_knows_the_world_and_states_its_accuracy():
    recogniser = load_recogniser(SHIPPED)
    assert set(recogniser.config.actors) == {actor.name for actor in actors_of("small")}
    assert set(recogniser.config.scenes) == {scene.name for scene in SCENES}
    assert set(recogniser.config.verbs) == set(VERBS)
    assert (SHIPPED / "model.safetensors").stat().st_size <= 2 * 2**20
    training = json.loads((SHIPPED / "config.json").read_text())["training"]
    assert all(found["num_clips"] >= 50 and found["verb_frozen"] < 0.3 for found in training["accuracy"].values())
