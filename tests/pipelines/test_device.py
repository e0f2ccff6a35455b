import pytest
import torch

from t2v.errors import InputError
from t2v.pipelines import device as device_module
from t2v.pipelines.device import dtype_name, resolve_device, resolve_dtype


def test_resolve_device_refuses_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no CUDA GPU here"):
        resolve_device("cuda")


def test_resolve_device_refuses_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda") == torch.device("cuda")
    with pytest.raises(InputError, match="cuda:3 was asked for, but this machine has 1 CUDA GPU"):
        resolve_device("cuda:3")


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cpu:x"])
def test_resolve_device_refuses_unknown_names(name):
    with pytest.raises(InputError, match="unknown device"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_resolve_device_auto_takes_the_fastest(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize(
    ("device", "native", "expected"),
    [("cuda", False, "fp16"), ("cpu", True, "bf16"), ("cpu", False, "fp32"), ("mps", True, "fp32")],
)
def test_resolve_dtype_auto_takes_what_is_fast(monkeypatch, device, native, expected):
    monkeypatch.setattr(device_module, "_has_native_bf16", lambda: native)
    assert dtype_name(resolve_dtype("auto", torch.device(device))) == expected


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("float16", torch.float16)]
)
def test_resolve_dtype_takes_short_and_long_names(name, dtype):
    assert resolve_dtype(name, torch.device("cpu")) == dtype


def test_resolve_dtype_refuses_unknown_names():
    with pytest.raises(InputError, match="unknown dtype 'int8': use auto, fp32, fp16, bf16"):
        resolve_dtype("int8", torch.device("cpu"))
