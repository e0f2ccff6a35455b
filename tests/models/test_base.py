import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from t2v.errors import InputError
from t2v.models import base
from t2v.models.base import (
    check_state_dict,
    load_config,
    load_header,
    load_state_dict,
    save_json,
    save_model,
    weight_files,
)

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.count": torch.tensor([1, 2])}


def expect_one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_save_model_round_trip(tmp_path):
    save_model(tmp_path / "net", {"width": 3}, TENSORS)
    assert load_config(tmp_path / "net") == {"width": 3}
    loaded = load_state_dict(tmp_path / "net")
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]


def test_save_model_dtype_leaves_integers(tmp_path):
    save_model(tmp_path, {}, TENSORS, stem="model", dtype=torch.float16)
    loaded = load_state_dict(tmp_path, stem="model")
    assert loaded["a.weight"].dtype == torch.float16
    assert loaded["b.count"].dtype == torch.int64


def test_save_model_writes_strided_tensors(tmp_path):
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    save_model(tmp_path, {}, {"w": weight.to(memory_format=torch.channels_last), "t": weight.flatten(1).T})
    loaded = load_state_dict(tmp_path)
    assert torch.equal(loaded["w"], weight)
    assert torch.equal(loaded["t"], weight.flatten(1).T)


def test_save_model_failure_keeps_the_old_file(tmp_path, monkeypatch):
    save_model(tmp_path, {}, TENSORS)

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(base, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(tmp_path, {}, {"other": torch.zeros(1)})
    assert load_state_dict(tmp_path).keys() == TENSORS.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_load_state_dict_of_a_file(tmp_path):
    save_file(TENSORS, tmp_path / "any.safetensors")
    assert load_state_dict(tmp_path / "any.safetensors").keys() == TENSORS.keys()


def test_load_state_dict_fp16_variant_when_there_is_no_other(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    assert load_state_dict(tmp_path)["a"] == 1
    save_file({"a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    assert load_state_dict(tmp_path)["a"] == 0


@pytest.mark.parametrize(
    ("shard", "index"),
    [
        ("diffusion_pytorch_model-0000{}-of-00002.safetensors", "diffusion_pytorch_model.safetensors.index.json"),
        (
            "diffusion_pytorch_model.fp16-0000{}-of-00002.safetensors",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
        ),
    ],
)
def test_load_state_dict_sharded(tmp_path, shard, index):
    names = [shard.format(number) for number in (1, 2)]
    save_file({"a": torch.ones(1)}, tmp_path / names[0])
    save_file({"b": torch.zeros(2)}, tmp_path / names[1])
    save_json(tmp_path / index, {"weight_map": {"a": names[0], "b": names[1]}})
    assert load_state_dict(tmp_path).keys() == {"a", "b"}
    assert [path.name for path in weight_files(tmp_path)] == names
    (tmp_path / names[1]).unlink()
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path)
    expect_one_line(error, names[1], "missing")


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"", lambda data: b"\xff" * 100 + data])
def test_load_state_dict_refuses_damaged_files(tmp_path, damage):
    save_model(tmp_path, {}, TENSORS)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path)
    expect_one_line(error, str(file), "truncated")


def test_load_state_dict_refuses_pickles(tmp_path):
    torch.save(TENSORS, tmp_path / "diffusion_pytorch_model.bin")
    for path in (tmp_path, tmp_path / "diffusion_pytorch_model.bin"):
        with pytest.raises(InputError) as error:
            load_state_dict(path)
        expect_one_line(error, "diffusion_pytorch_model.bin", "refused", "t2v convert FILE NEW.safetensors")


def test_load_state_dict_names_the_missing_file(tmp_path):
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path, stem="model")
    expect_one_line(error, str(tmp_path / "model.safetensors"), "missing")


@pytest.mark.parametrize(("text", "word"), [(None, "missing"), ("{", "not valid JSON"), ("[1]", "expected an object")])
def test_load_config_refuses(tmp_path, text, word):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError) as error:
        load_config(tmp_path)
    expect_one_line(error, str(tmp_path / "config.json"), word)


def test_load_config_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(InputError) as error:
        load_config(tmp_path)
    expect_one_line(error, "cannot read", str(tmp_path / "config.json"), "Permission denied")


def test_save_json_keeps_unicode(tmp_path):
    save_json(tmp_path / "x.json", {"Ġa</w>": 1})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"Ġa</w>": 1}


@pytest.mark.parametrize(
    ("state_dict", "parts"),
    [
        ({"weight": torch.zeros(2, 3)}, ("bias is missing",)),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, ("weight has shape (3, 2)", "expected (2, 3)")),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, ("x is not expected",)),
    ],
)
def test_check_state_dict_names_the_first_mismatch(state_dict, parts):
    with pytest.raises(InputError) as error:
        check_state_dict(nn.Linear(3, 2), state_dict, "the/file")
    expect_one_line(error, "the/file: ", *parts)


def test_check_state_dict_accepts_its_own():
    check_state_dict(nn.Linear(3, 2), nn.Linear(3, 2).state_dict(), "x")


def test_save_model_gives_files_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "any").touch()
    save_model(tmp_path / "model", {}, {"weight": torch.ones(2)})
    for file in (tmp_path / "model").iterdir():
        assert file.stat().st_mode == (tmp_path / "any").stat().st_mode, file.name


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "sub/a.safetensors", "weights.bin", 3])
def test_an_index_cannot_name_files_elsewhere(tmp_path, name):
    folder = tmp_path / "net"
    folder.mkdir()
    save_file(TENSORS, tmp_path / "other.safetensors")
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": name}}))
    with pytest.raises(InputError) as error:
        load_state_dict(folder)
    expect_one_line(error, str(index), repr(str(name)), "safetensors files beside it")


@pytest.mark.parametrize("weight_map", [None, {}, ["a"], "a"])
def test_an_index_without_a_weight_map_is_refused(tmp_path, weight_map):
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match="names no weight files"):
        load_state_dict(tmp_path)


HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        (2**63).to_bytes(8, "little") + HEADER,
        (2**40).to_bytes(8, "little") + HEADER + b"\0" * 4,
        (3).to_bytes(8, "little") + b"{}}",
        len(HEADER).to_bytes(8, "little") + HEADER.replace(b"[0,4]", b"[0,9]") + b"\0" * 4,
        len(HEADER).to_bytes(8, "little") + HEADER.replace(b"[1]", b"[9]") + b"\0" * 4,
    ],
    ids=["empty", "short", "length 2^63", "length 2^40", "no JSON", "offsets", "shape"],
)
def test_absurd_headers_are_one_line(tmp_path, content):
    file = tmp_path / "absurd.safetensors"
    file.write_bytes(content)
    for read in (load_state_dict, load_header):
        with pytest.raises(InputError) as error:
            read(file)
        expect_one_line(error, str(file), "truncated or not a safetensors file")


def test_load_header_reads_shapes_and_metadata(tmp_path):
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"by": "me"})
    header = load_header(tmp_path / "a.safetensors")
    assert header.shapes == {"a.weight": (2, 3), "b.count": (2,)}
    assert header.dtypes == {"a.weight": "F32", "b.count": "I64"}
    assert header.num_parameters == 6
    assert header.num_bytes == 6 * 4 + 2 * 8
    assert header.select(["b.count"]).shapes == {"b.count": (2,)}
    assert header.metadata["by"] == "me"


def test_numbers_that_json_lacks_are_written_as_null(tmp_path):
    content = {"flow_error": float("nan"), "lines": [{"a": float("inf")}, (1.5, float("-inf"))], "n": 2, "kept": "nan"}
    save_json(tmp_path / "a.json", content)
    expected = {"flow_error": None, "lines": [{"a": None}, [1.5, None]], "n": 2, "kept": "nan"}
    assert base.load_json(tmp_path / "a.json") == expected
