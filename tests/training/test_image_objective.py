import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2v.errors import InputError
from t2v.models.folder import load_components
from t2v.training.config import TrainConfig
from t2v.training.config_sections import UNetSection
from t2v.training.objectives.image import unet_config, vocabulary
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]


def test_image_overfits_a_few_pictures(configure: Configure) -> None:
    options = ("max_steps=40", "batch_size=16", "optim.learning_rate=1e-2", "save_every=40", "validate_every=40")
    figures: list[dict[str, float]] = []
    Trainer(configure("image", *options, "log_every=10"), on_log=figures.append).run()
    losses = [line["loss"] for line in figures if "loss" in line]
    assert losses[-1] < 0.85 * losses[0]


def test_image_trains_unet_and_text_encoder_but_not_the_autoencoder(
    configure: Configure, tiny_image_model: Path, tmp_path: Path
) -> None:
    trainer = Trainer(configure("image", "max_steps=2"))
    before = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
    trainer.run()
    changed = {name for name, parameter in trainer.parameters.items() if not torch.equal(parameter, before[name])}
    assert any(name.startswith("text_encoder.") for name in changed)
    assert any(name.startswith("unet.") for name in changed)
    base = load_components(str(tiny_image_model)).autoencoder.state_dict()
    exported = load_components(str(tmp_path / "run" / "model")).autoencoder.state_dict()
    assert all(torch.equal(exported[name], tensor) for name, tensor in base.items())


def test_image_export_is_a_model_folder(configure: Configure, tmp_path: Path) -> None:
    trainer = Trainer(configure("image", "optim.ema_decay=null", "data.caption_dropout=0"))
    trainer.run()
    components = load_components(str(tmp_path / "run" / "model"))
    assert components.vocabulary == {"a", "red", "green", "blue", "square"}
    assert components.scheduler["prediction_type"] == "v_prediction"
    assert components.scheduler["rescale_betas_zero_snr"]
    network = trainer.objective.network.eval()
    x, timestep = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        ours = network(x, timestep, components.text_encoder.tokenize(["a red square"]))
        theirs = components.unet(x, timestep, components.text_encoder.encode(["a red square"]))
    assert torch.equal(ours, theirs)


def test_image_goes_on_from_given_weights(configure: Configure, tiny_image_model: Path) -> None:
    trainer = Trainer(configure("image", f"init_from={tiny_image_model}"))
    expected = load_components(str(tiny_image_model)).unet.state_dict()
    assert all(torch.equal(p, expected[n.removeprefix("unet.")]) for n, p in trainer.parameters.items() if "unet" in n)


def test_image_drops_captions_at_the_given_rate(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(configure("image", "data.caption_dropout=0.25", "batch_size=400"))
    objective = trainer.objective
    seen: list[torch.Tensor] = []

    def network(noisy: torch.Tensor, timesteps: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        seen.append(input_ids)
        return torch.zeros_like(noisy)

    objective.loss(network, next(trainer._batches()), 0.0)  # type: ignore[arg-type]
    dropped = (seen[0] == objective.null_ids).all(dim=1).float().mean()  # type: ignore[attr-defined]
    assert 0.17 < dropped < 0.33


def test_image_refuses_pictures_without_captions(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for index in range(4):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "bare" / f"{index}.png")
    with pytest.raises(InputError, match=r"4 pictures in .* have no caption"):
        Trainer(configure("image", f"data.path={tmp_path / 'bare'}"))


@pytest.mark.parametrize(("override", "message"), [("model.base=null", "--model"), ("model.base=nowhere", "nowhere")])
def test_image_refuses_a_base_without_autoencoder(configure: Configure, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(configure("image", override))


def test_image_refuses_a_cache_folder_that_cannot_be_made(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.cache_dir .*file cannot be made"):
        Trainer(configure("image", f"data.cache_dir={tmp_path / 'file'}"))


def test_unet_config_places_attention_by_level() -> None:
    section = UNetSection(block_out_channels=(32, 64, 96), cross_attention_levels=(False, True, True))
    config = unet_config(section, 4, 16, 24)
    assert config.down_block_types == ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    assert config.up_block_types == ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    with pytest.raises(InputError, match="cross_attention_levels"):
        unet_config(UNetSection(block_out_channels=(32, 64)), 4, 16, 24)


def test_vocabulary_lists_words_in_lower_case() -> None:
    words = vocabulary(["A robot, dancing", "a Robot's hat"])
    assert words == sorted(words) and {"a", "robot", "dancing", "hat"} <= set(words) and json.dumps(words)
