"""What learns with each `model.train`, what stays, and what the run leaves behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import t2v
from t2v.errors import InputError
from t2v.models.base import load_state_dict
from t2v.models.folder import load_components
from t2v.models.inflate import is_temporal, spatial_hash
from t2v.models.lora import LORA_FILE, is_lora
from t2v.models.unet import VideoUNet
from t2v.training.config import TrainConfig
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]


def changed_names(trainer: Trainer) -> set[str]:
    network = trainer.objective.network
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    trainer.run()
    return {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}


def test_temporal_leaves_the_spatial_weights_and_proves_it(configure: Configure, tiny_image_model: Path) -> None:
    trainer = Trainer(configure("temporal", "max_steps=3"))
    changed = changed_names(trainer)
    assert changed and all(is_temporal(name) for name in changed)
    assert spatial_hash(trainer.objective.network) == spatial_hash(VideoUNet.from_pretrained(tiny_image_model / "unet"))  # type: ignore[arg-type]
    with torch.no_grad():
        trainer.objective.network.get_parameter("mid_block.resnets.0.conv1.bias")[0] += 1e-6
    with pytest.raises(AssertionError, match="training changed spatial weights"):
        trainer.objective.export(trainer.folder.path)


def test_lora_trains_adapters_beside_and_generate_takes_them(configure: Configure, tiny_image_model: Path) -> None:
    options = ("model.train=lora", "model.lora={rank: 2, alpha: 4}", "optim.ema_decay=null", "max_steps=3")
    trainer = Trainer(configure("temporal", *options))
    changed = changed_names(trainer)
    assert all(is_temporal(name) or is_lora(name) for name in changed) and any(is_lora(name) for name in changed)
    motion = trainer.folder.path / "motion"
    assert {tensor.shape[0] for name, tensor in load_state_dict(motion / LORA_FILE).items() if "lora_A" in name} == {2}
    components = load_components(str(tiny_image_model), motion=str(motion))
    arguments = torch.randn(1, 4, 4, 8, 8), torch.tensor([10]), torch.randn(1, 16, 16), torch.tensor([12.0])
    with torch.no_grad():
        torch.testing.assert_close(
            components.unet(*arguments), trainer.objective.network.eval()(*arguments), rtol=1e-4, atol=1e-5
        )


def test_lora_goes_on_to_the_bit(configure: Configure, tmp_path: Path) -> None:
    whole = Trainer(configure("temporal", "model.train=lora", f"output_dir={tmp_path / 'whole'}"))
    whole.run()
    first = Trainer(configure("temporal", "model.train=lora"), on_step=lambda step, _: stop(first, step))
    assert first.run() == "stopped"
    rest = Trainer(configure("temporal", "model.train=lora"), resume="auto")
    rest.run()
    assert all(torch.equal(p, whole.parameters[name]) for name, p in rest.parameters.items())


def stop(trainer: Trainer, step: int) -> None:
    trainer.stop_requested = step == 2


def test_lora_is_no_start_of_another_run(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("temporal", "model.train=lora", "max_steps=1")).run()
    (tmp_path / "run").rename(tmp_path / "first")
    with pytest.raises(InputError, match="has a LoRA"):
        Trainer(configure("temporal", f"init_from={tmp_path / 'first'}"))


def test_full_trains_everything_and_leaves_a_whole_model(configure: Configure, tmp_path: Path) -> None:
    trainer = Trainer(configure("temporal", "model.train=full", "optim.ema_decay=null", "max_steps=3"))
    changed = changed_names(trainer)
    assert any(is_temporal(name) for name in changed) and "conv_in.weight" in changed
    folder = str(tmp_path / "run" / "model")
    components = load_components(folder)
    arguments = torch.randn(1, 4, 4, 8, 8), torch.tensor([10]), torch.randn(1, 16, 16), torch.tensor([12.0])
    with torch.no_grad():
        assert torch.equal(components.unet(*arguments), trainer.objective.network.eval()(*arguments))
    pipe = t2v.load(folder, device="cpu", dtype="fp32")
    assert pipe.defaults.num_inference_steps == 3  # the base's generation_config.json


def test_from_scratch_knows_nothing_of_the_base(configure: Configure, tiny_image_model: Path, tmp_path: Path) -> None:
    overrides = ("model.train=full", "model.from_scratch=true", "model.temporal.fps=false", "max_steps=1")
    trainer = Trainer(configure("temporal", *overrides))
    base = VideoUNet.from_pretrained(tiny_image_model / "unet")
    own = trainer.objective.network.state_dict()
    weights = [name for name, value in base.named_parameters() if value.ndim > 1]
    assert weights and not any(torch.equal(own[name], base.state_dict()[name]) for name in weights)
    again = Trainer(
        configure("temporal", *overrides, f"output_dir={tmp_path / 'again'}")
    ).objective.network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in own.items())
    trainer.run()
    motion = load_components(str(tmp_path / "run" / "model")).unet.motion
    assert motion is not None and not motion.fps_conditioning


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.from_scratch=true", "from_scratch needs train: full"),
        ("model.train=some", "model.train"),
        ("model.lora.rank=0", "model.lora.rank"),
        ("model.lora.targets=[]", "targets"),
    ],
)
def test_what_trains_is_checked(configure: Configure, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        configure("temporal", override)
