from pathlib import Path

import pytest

from tests.models.peers import SD1, SD2, save_pipeline


@pytest.fixture(scope="session")
def sd1_folder(tmp_path_factory) -> Path:
    """A small Stable Diffusion 1 folder that diffusers wrote; read only."""
    return save_pipeline(SD1, tmp_path_factory.mktemp("peers") / "sd1")


@pytest.fixture(scope="session")
def sd2_folder(tmp_path_factory) -> Path:
    """A small Stable Diffusion 2 folder that diffusers wrote; read only."""
    return save_pipeline(SD2, tmp_path_factory.mktemp("peers") / "sd2")
