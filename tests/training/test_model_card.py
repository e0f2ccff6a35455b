"""The model card of a run folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from t2v.training.config import TrainConfig
from t2v.training.config_files import load_config
from t2v.training.model_card import RunSummary, model_card, write_model_card
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]
SUMMARY = RunSummary(200, 800, 7200.0, 400, 2, torch.device("cpu"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as training leaves it."""
    folder = tmp_path / "run"
    (folder / "motion").mkdir(parents=True)
    lines = [
        {"global_step": 100, "loss": 0.5},
        {"global_step": 100, "validation_loss": 0.4, "validation_loss_shuffled": 0.5, "validation_loss_t0": 0.7},
        {"global_step": 200, "loss": 0.25},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    skipped = [{"path": f"{i}.mp4", "reason": f"{i}.mp4: no video stream"} for i in range(3)]
    (folder / "skipped.jsonl").write_text("".join(json.dumps(line) + "\n" for line in skipped))
    starts = [{"torch": "1"}, {"torch": "2.13", "git_commit": "abc", "data": {"path": "videos", "sha256": "ffee"}}]
    (folder / "run.json").write_text(json.dumps(starts))
    return folder


def test_model_card_says_how_the_weights_were_made(run: Path) -> None:
    options = {"model.base": "owner/sd", "data.path": "videos", "data.num_validation": 7}
    config = load_config("temporal", options=options)
    write_model_card(run, config, SUMMARY)
    card = (run / "README.md").read_text()
    assert (run / "motion" / "README.md").read_text() == card
    for text in (
        f't2v generate --model owner/sd --motion {run / "motion"} "..."',
        "| steps | 200 |",
        "800 (2.0 epochs)",
        "2.00 h",
        "2 x CPU",
        "torch 2.13",
        "ffee",
        "400 for training, at most 7 held back",
        "3: no video stream (3)",
        "| `loss` | 0.2500 |",
        "| `validation_loss_shuffled` | 0.5000 |",
        "noise level 1 of 5",
        "the terms of both apply",
    ):
        assert text in card, text
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert settings == config.model_dump(mode="json")
    assert yaml.safe_load(card.split("---\n")[1]) == {"library_name": "t2v", "pipeline_tag": "text-to-video"}


def test_model_card_of_a_whole_model_needs_no_base_to_be_used(run: Path) -> None:
    (run / "model" / "motion").mkdir(parents=True)
    config = load_config("temporal", options={"model.base": "owner/sd", "data.path": "videos"})
    assert f't2v generate --model {run / "model"} "..."' in model_card(run, config, SUMMARY)


@pytest.mark.parametrize(("stage", "command"), [("autoencoder", "t2v train image"), ("image", "t2v train temporal")])
def test_model_card_of_the_other_stages_names_the_next_one(stage: str, command: str, tmp_path: Path) -> None:
    card = model_card(tmp_path, load_config(stage, options={"data.path": "pictures"}), SUMMARY)  # no records at all
    assert f"{command} --model {tmp_path / 'model'}" in card
    assert "pipeline_tag" not in card and "None" not in card.split("```yaml")[0]


def test_a_finished_run_leaves_a_card(configure: Configure, tmp_path: Path) -> None:
    trainer = Trainer(configure("temporal"), on_step=lambda step, _: setattr(trainer, "stop_requested", step == 2))
    assert trainer.run() == "stopped"
    assert not (tmp_path / "run" / "README.md").exists()
    Trainer(configure("temporal"), resume="auto").run()
    card = (tmp_path / "run" / "motion" / "README.md").read_text()
    assert "| steps | 4 |" in card and "| samples seen | 12 (3.0 epochs) |" in card and "`validation_loss`" in card
