"""Tuned tiles: reading them, and running a kernel with them."""

import json
from pathlib import Path

import pytest
import torch

from t2v.errors import InputError
from t2v.ops import functional
from t2v.ops.triton import tuned
from t2v.ops.triton.configs import AttentionConfig, ConvConfig, conv_config
from tests.ops.kernel_cases import DEVICE, images, kernels, randn

TILE = {"BM": 64, "BN": 32, "BK": 32, "num_warps": 4, "num_stages": 2}
KEY = "conv_i40_o40_p64"


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_file_is_read_by_gpu_and_kernel(tmp_path: Path) -> None:
    path = write(tmp_path / "tiles.json", {"NVIDIA H200": {KEY: TILE}})
    assert tuned.read_tiles(path) == {"NVIDIA H200": {KEY: ConvConfig(**TILE)}}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        [],
        {"GPU": {"softmax_c320": TILE}},
        {"GPU": {KEY: {"BM": 64}}},
        {"GPU": {KEY: {**TILE, "BN": 48}}},
        {"GPU": {KEY: {**TILE, "BN": "32"}}},
        {"GPU": {"attention_forward_f16_d40": {"FP": 8, "PX": 8, "QR": 64, "W": 32, "num_warps": 4}}},
        {"GPU": {"attention_backward_f16_d40_bias": {"FP": 16, "PX": 4, "QR": 16, "W": 32, "num_warps": 4}}},
    ],
    ids=str,
)
def test_what_is_no_file_of_tiles_is_refused_in_one_line(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="no file of tiles") as caught:
        tuned.read_tiles(write(tmp_path / "tiles.json", content))
    assert "\n" not in str(caught.value)


def test_the_file_is_the_named_one_or_lies_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T2V_TILES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuned.tiles_path() == tmp_path / "t2v" / "tiles.json"
    monkeypatch.setenv("T2V_TILES", str(tmp_path / "mine.json"))
    with pytest.raises(InputError, match=r"mine\.json, which is not a file"):
        tuned.tiles_path()
    write(tmp_path / "mine.json", {})
    assert tuned.tiles_path() == tmp_path / "mine.json"


@pytest.mark.parametrize(("key", "dtype"), [(KEY, torch.float16), ("conv_i40_o40_p128", torch.float16)])
def test_a_gpu_takes_its_own_tiles(
    key: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu:
        is_cuda, device = True, torch.device("cuda")

    x, default = OnGpu(), conv_config(40, 64)
    x.dtype = dtype
    monkeypatch.setenv("T2V_TILES", str(write(tmp_path / "tiles.json", {"NVIDIA H200": {KEY: TILE}})))
    for gpu, expected in (("NVIDIA H200", ConvConfig(**TILE) if key == KEY else default), ("NVIDIA A100", default)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device, gpu=gpu: gpu)
        assert tuned.chosen(key, default, x) == expected
    x.dtype = torch.float32
    assert tuned.chosen(key, default, x) == default


def test_a_kernel_runs_with_another_tile() -> None:
    x, weight = images(2, 40, 9, 7), randn(40, 40, 3, 1, seed=1)
    q, k, v = (randn(1, 3, 5, 2, 16, seed=i) for i in range(3))
    with kernels():
        expected = functional.temporal_conv(x, weight, None, 2), functional.temporal_attention(q, k, v)
        with tuned.trial(KEY, ConvConfig(**TILE)):
            conv = functional.temporal_conv(x, weight, None, 2)
        with tuned.trial("attention_forward_f4_d16", AttentionConfig(4, 4, 16, 16, 2)):
            attention = functional.temporal_attention(q, k, v)
    for got, value in zip((conv, attention), expected, strict=True):
        torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-5)
    assert x.device.type == DEVICE
    with pytest.raises(AssertionError), kernels(), tuned.trial(KEY, AttentionConfig(4, 4, 16, 16, 2)):
        functional.temporal_conv(x, weight, None, 2)
