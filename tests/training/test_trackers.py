import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from t2v.errors import InputError
from t2v.training.config import TrainConfig
from t2v.training.trackers import check_trackers
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]


def events(folder: Path) -> list[Event]:
    """What TensorBoard would read: records of (length, its checksum, an event, its checksum)."""
    found = []
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            found.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += 16 + length
    return found


def test_tensorboard_gets_the_figures_and_the_samples(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("temporal", "max_steps=2", "validate_every=2", "save_every=2")).run()
    found = events(tmp_path / "run" / "logs")
    values = [(event.step, value) for event in found for value in event.summary.value]
    losses = [(step, value.simple_value) for step, value in values if value.tag == "loss"]
    assert [step for step, _ in losses] == [1, 2] and all(loss > 0 for _, loss in losses)
    assert {value.tag.partition("/")[0] for _, value in values if value.HasField("image")} == {"samples"}


def test_no_trackers_write_no_logs(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("autoencoder", "max_steps=1", "trackers=[]")).run()
    assert not (tmp_path / "run" / "logs").exists()


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2v.training.trackers.find_spec", lambda package: None)
    with pytest.raises(InputError, match=r'pip install "t2v\[wandb\]"'):
        check_trackers(("wandb",))
