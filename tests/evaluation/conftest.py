import pytest

from tests.evaluation.moving_sprite import write_clips, write_pictures


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("evaluation") / "clips")


@pytest.fixture(scope="session")
def pictures_folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("evaluation") / "sprites")
