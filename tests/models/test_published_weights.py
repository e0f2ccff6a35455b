import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch

from t2v.errors import InputError
from t2v.models import published_weights
from t2v.models.base import save_state_dict
from t2v.models.published_weights import PUBLISHED, Published, find_weights
from tests.evaluation.networks.tiny import inception_weights

CPU = torch.device("cpu")


def publish(monkeypatch, network, path):
    """As if the file were the published one."""
    known = PUBLISHED[network]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    table = {**PUBLISHED, network: Published(known.files, digest, known.source)}
    monkeypatch.setattr(published_weights, "PUBLISHED", table)


def test_the_published_pickle_is_read_for_its_tensors(tmp_path, monkeypatch):
    path = tmp_path / PUBLISHED["inception"].files[0]
    torch.save(inception_weights(), path)
    publish(monkeypatch, "inception", path)
    found = find_weights(tmp_path, "inception")
    assert found.is_published and found.record == {"weights_sha256": found.sha256, "published": True}
    assert torch.equal(found.tensors(CPU)["fc.bias"], inception_weights()["fc.bias"])


def test_another_pickle_is_never_opened(tmp_path):
    path = tmp_path / PUBLISHED["inception"].files[0]
    path.write_bytes(b"would run code")
    for allow in (False, True):
        with pytest.raises(InputError, match=r"has SHA-256 [0-9a-f]{64}, the published file 6726825d.*t2v convert"):
            find_weights(tmp_path, "inception", allow)


def test_another_torchscript_is_never_opened(tmp_path):
    (tmp_path / "i3d_torchscript.pt").write_bytes(b"would run code")
    with pytest.raises(InputError, match=r"bec6519f.*get it from StyleGAN-V and fvd-comparison again$"):
        find_weights(tmp_path, "i3d_torchscript", True)


def test_other_safetensors_are_taken_when_asked_for(tmp_path):
    save_state_dict(tmp_path / "inception-2015-12-05.safetensors", inception_weights())
    with pytest.raises(InputError, match="add --unpublished-weights"):
        find_weights(tmp_path, "inception")
    found = find_weights(tmp_path, "inception", allow_unpublished=True)
    assert not found.is_published and "fc.weight" in found.tensors(CPU)


def test_missing_files_and_folders(tmp_path):
    assert all(find_weights(tmp_path, network) is None for network in PUBLISHED)
    with pytest.raises(InputError, match="--weights: no folder"):
        find_weights(tmp_path / "none", "clip")


def test_the_table_knows_the_linear_layers_that_torchmetrics_bundles():
    package = importlib.util.find_spec("torchmetrics")
    if package is None:
        pytest.skip("torchmetrics is not installed")
    path = Path(package.origin).parent / "functional/image/lpips_models/alex.pth"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == PUBLISHED["lpips_alex"].sha256
