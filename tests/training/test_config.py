import os
import re
from pathlib import Path

import pytest

from t2v.errors import InputError
from t2v.training.config import STAGES, ImageTrainConfig
from t2v.training.config_files import dump_config, load_config

CONFIGS = Path(__file__).parents[2] / "configs" / "mini"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_load_config_overlays_files_then_options_then_overrides(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "batch_size: 8\nseed: 1\ndata: {resolution: 64, num_workers: 1}\n")
    second = write(tmp_path / "b.yaml", "seed: 2\ndata: {resolution: 96}\n")
    config = load_config(
        "image", [first, second], ["data.resolution=32"], {"seed": 3, "data.path": "x", "init_from": None}
    )
    assert isinstance(config, ImageTrainConfig)
    assert (config.batch_size, config.seed, config.init_from) == (8, 3, None)
    assert (config.data.resolution, config.data.num_workers, config.data.path) == (32, 1, "x")


def test_load_config_leaves_its_arguments_alone() -> None:
    options = {"validation": {"seed": 1}}
    load_config("image", overrides=["validation.seed=2"], options=options)
    assert options == {"validation": {"seed": 1}}


def test_load_config_reads_override_values_as_yaml() -> None:
    config = load_config(
        "temporal", overrides=["data.fps_range=[2, 12]", "max_seconds=1e3", "compile=true", "data.conditioning=null"]
    )
    assert config.model_dump()["data"]["fps_range"] == (2.0, 12.0)
    assert config.max_seconds == 1000 and config.compile
    assert config.model_dump()["data"]["conditioning"] == "null"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data.resolutoin=64", "data.resolutoin"),
        ("optim.lr=1", "learning_rate"),  # the known keys are listed
        ("nonsense=1", "nonsense"),
        ("max_steps=many", "max_steps"),
        ("data.num_workers=-1", "data.num_workers"),
        ("mixed_precision=int8", "mixed_precision"),
        ("model.unet=3", "model.unet"),
        ("max_steps", "key=value"),
        ("seed=[", "seed"),
    ],
)
def test_load_config_names_the_wrong_key(override: str, named: str) -> None:
    with pytest.raises(InputError) as error:
        load_config("image", overrides=[override])
    assert named in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.betas=[2, 3]", "optim.betas.0: input should be less than 1, got 2"),
        ("optim.betas=[0.9, -0.1]", "optim.betas.1: input should be greater than or equal to 0, got -0.1"),
        ("optim.learning_rate=.inf", "optim.learning_rate: input should be a finite number, got inf"),
        ("max_seconds=.nan", "max_seconds: input should be a finite number, got nan"),
        ("data.fps_range=[30, 1]", "data.fps_range: the lower bound comes first, got [30, 1]"),
        ("data.fps_range=[0, 0]", "data.fps_range.0: input should be greater than 0, got 0"),
        ("data.fps_range=[-5, 1]", "data.fps_range.0: input should be greater than 0, got -5"),
        ("data.aspect_buckets=[[10]]", "data.aspect_buckets: should be true, false or sizes, as in"),
        ("data.aspect_buckets=square", "data.aspect_buckets: should be true, false or sizes, as in"),
        ("data=3", "data: should hold keys and values, got 3"),
    ],
)
def test_load_config_refuses_values_without_a_meaning(override: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^config: {re.escape(message)}"):
        load_config("temporal", overrides=[override])


def test_load_config_refuses_a_file_that_is_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes("output_dir: Übung".encode("latin-1"))
    with pytest.raises(InputError, match=r"c\.yaml is no UTF-8 text .* at byte 12"):
        load_config("temporal", [tmp_path / "c.yaml"])


@pytest.mark.parametrize("wrong", ["data: {resolution: big}", "data: {resolutoin: 64}", "data: 3", "nonsense: 1"])
def test_load_config_names_the_file_of_an_error(tmp_path: Path, wrong: str) -> None:
    right = write(tmp_path / "right.yaml", "data: {num_validation: 3, resolution: 64}\nseed: 1\n")
    files = [right, write(tmp_path / "wrong.yaml", wrong + "\n")]
    with pytest.raises(InputError, match=r"^config .*wrong\.yaml: .*(data|nonsense)"):
        load_config("image", files)
    if "big" in wrong:
        assert load_config("image", files, ["data.resolution=32"]).model_dump()["data"]["resolution"] == 32
        with pytest.raises(InputError, match=r"^config: data\.resolution"):
            load_config("image", files, ["data.resolution=huge"])


def test_load_config_refuses_keys_of_another_stage() -> None:
    with pytest.raises(InputError, match=r"data\.fps_range for stage image"):
        load_config("image", overrides=["data.fps_range=[1, 2]"])


@pytest.mark.parametrize("content", [None, "[1, 2]", "a: [", ""])
def test_load_config_refuses_files_that_are_no_mapping(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"c\.yaml"):
        load_config("image", [path])


def test_load_config_refuses_an_unknown_stage() -> None:
    with pytest.raises(InputError, match="autoencoder, image, temporal"):
        load_config("video")


@pytest.mark.parametrize("stage", STAGES)
def test_dump_config_is_read_back(stage: str, tmp_path: Path) -> None:
    config = load_config(stage, overrides=["seed=7"])
    assert load_config(stage, [write(tmp_path / "c.yaml", dump_config(config))]) == config


@pytest.mark.parametrize("kind", ["cpu", "full"])
@pytest.mark.parametrize("stage", STAGES)
def test_shipped_configs_load_and_differ_only_in_scale(stage: str, kind: str) -> None:
    config = load_config(stage, [CONFIGS / kind / f"{stage}.yaml"])
    other = load_config(stage, [CONFIGS / "full" / f"{stage}.yaml"])
    # the same architecture, so that weights of one warm-start the other
    assert config.model_dump()["model"] == other.model_dump()["model"]


@pytest.mark.parametrize("path", sorted((CONFIGS / "ablations").iterdir()), ids=lambda path: path.stem)
def test_ablations_differ_in_the_model_alone(path: Path) -> None:
    files = [CONFIGS / "cpu" / "temporal.yaml", path]
    config, whole = (load_config("temporal", chosen).model_dump() for chosen in (files, files[:1]))
    assert (config.pop("model") == whole.pop("model")) == (path.stem == "both")
    assert config.pop("output_dir").endswith(path.stem)
    assert config == {name: value for name, value in whole.items() if name != "output_dir"}


def test_overfit_lies_over_the_configuration_of_mini() -> None:
    config = load_config("temporal", [CONFIGS / "cpu" / file for file in ("temporal.yaml", "overfit.yaml")])
    assert config.max_steps == 200 and config.max_seconds is None


@pytest.mark.parametrize("more", [(), ("temporal_12gb.yaml",), ("animatediff.yaml",)])
def test_shipped_configs_for_stable_diffusion_load(more: tuple[str, ...]) -> None:
    config = load_config("temporal", [CONFIGS.parent / "sd15" / file for file in ("temporal.yaml", *more)])
    assert config.data.num_frames == 16 and config.data.resolution == 256  # type: ignore[attr-defined]
    assert config.model.gradient_checkpointing and config.model.train == "temporal"  # type: ignore[attr-defined]


def test_no_more_workers_than_usable_cores_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5}, raising=False)
    assert load_config("temporal").data.num_workers == 1  # type: ignore[attr-defined]
    assert load_config("temporal", overrides=["data.num_workers=3"]).data.num_workers == 3  # type: ignore[attr-defined]
