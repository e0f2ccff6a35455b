"""Every kernel compiles for compute capability 8.0, 9.0 and 10.0, without a GPU: no spills, wide loads, and it fits."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("triton", reason="the kernels need the package triton")

SHARED_LIMIT = {80: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # 8.0 has more, 8.6 and 8.9 run the same code


def compiled(*arguments: str) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.ops.compile_kernels", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(builds: list[dict[str, Any]]) -> None:
    assert builds
    for build in builds:
        name = f"{build['name']} on {build['architecture']}"
        assert build["local"] == build["stack"] == 0, f"{name} spills"
        assert build["shared"] <= SHARED_LIMIT[build["architecture"]], name
        by_matrix_units = build["name"].startswith(("attention", "conv")) and not build["name"].endswith("fp32")
        assert bool(build["matrix"]) == by_matrix_units, name  # which would round float32
        if not build["name"].startswith("merge"):  # a few thousand numbers
            assert max(build["loads"]) == 128, f"{name}: no 16-byte loads"
            assert max(build["stores"]) >= 32, f"{name}: narrow stores"


def test_a_sample_of_the_kernels_compiles_for_a_gpu() -> None:
    check(compiled())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_every_shipped_configuration_compiles_for_a_gpu(dtype: str) -> None:
    check(compiled(dtype))
