"""The networks against their definitions written another way, and against the packages that have them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from t2v.errors import InputError
from t2v.evaluation.networks.i3d import I3D, to_i3d_input
from t2v.evaluation.networks.inception import InceptionV3, resize_as_tensorflow
from t2v.models.published_weights import Weights
from tests.evaluation.networks.tiny import (
    WIDTH,
    i3d_weights,
    inception_weights,
)


def frames(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class Unit(nn.Module):
    """As PyTorch's I3D has it, with modules; time and place padded by hand."""

    def __init__(self, inputs, kernel, stride=1):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, WIDTH, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(WIDTH)
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        pads = []
        for size in reversed(x.shape[2:]):
            steps = -(-size // self.stride)
            total = max((steps - 1) * self.stride + self.kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.relu(self.bn(self.conv3d(F.pad(x, pads))))


def test_i3d_blocks_equal_modules():
    weights = i3d_weights()
    network = I3D(weights)
    x = torch.rand(2, 3, 10, 23, 22)
    for name, inputs, kernel, stride in (("Conv3d_1a_7x7", 3, 7, 2), ("Conv3d_2c_3x3", WIDTH, 3, 1)):
        unit = Unit(inputs, kernel, stride).eval()
        unit.load_state_dict({k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")})
        with torch.no_grad():
            assert torch.equal(network._unit(x, name), unit(x))
        x = network._unit(x, name)
    assert network._blocks(x, "3b").shape == (2, 4 * WIDTH, 5, 12, 11)


def test_i3d_tells_videos_apart_and_wants_nine_frames():
    network = I3D(i3d_weights(num_classes=7))
    scores = network(frames(2, 9, 30, 40, 3))
    assert scores.shape == (2, 7) and not torch.allclose(scores[0], scores[1])
    with pytest.raises(RuntimeError):
        network(frames(1, 8, 30, 40, 3))


def test_i3d_input_is_the_centre_at_224_pixels():
    wide = torch.zeros(1, 2, 112, 200, 3, dtype=torch.uint8)
    wide[:, :, :, 44:156] = 255
    x = to_i3d_input(wide)
    assert x.shape == (1, 3, 2, 224, 224) and x[..., 1:-1].min() == 1


def test_i3d_equals_the_package_cd_fvd():
    peer = pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d").InceptionI3d(400, in_channels=3).eval()
    video = frames(1, 10, 40, 40, 3)
    with torch.no_grad():
        assert torch.equal(I3D(peer.state_dict())(video), peer(to_i3d_input(video)))


def test_inception_equals_torch_fidelity():
    feature_extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError)
    torch.manual_seed(0)
    feature_extractor.load_state_dict_from_url = lambda *_, **__: {}
    peer_class = feature_extractor.FeatureExtractorInceptionV3
    peer_class.load_state_dict = lambda self, state_dict: None
    peer = peer_class("inception-v3-compat", ["2048", "logits_unbiased"])
    pictures = frames(2, 64, 50, 3)
    for own, other in zip(InceptionV3(peer.state_dict())(pictures), peer(pictures.permute(0, 3, 1, 2)), strict=True):
        assert torch.equal(own, other)


def test_inception_tells_pictures_apart():
    features, logits = InceptionV3(inception_weights(num_classes=5))(frames(2, 40, 52, 3))
    assert features.shape == (2, 6 * WIDTH) and logits.shape == (2, 5)
    assert not torch.allclose(features[0], features[1])


def test_resizing_as_tensorflow():
    """Corner on corner: the first pixel stays, doubling puts halves between, the last is repeated."""
    row = torch.tensor([[[[0.0, 10.0, 30.0]]]])
    assert resize_as_tensorflow(row, 6)[0, 0, 0].tolist() == [0, 5, 10, 20, 30, 30]


def test_weights_of_another_network_are_told_by_the_first_missing_name(tmp_path):
    weights = Weights(inception_weights(), tmp_path / "i3d.safetensors")
    with pytest.raises(InputError, match=r"i3d.safetensors has no Conv3d_1a_7x7.conv3d.weight: these are the weights"):
        I3D(weights)(frames(1, 9, 20, 20, 3))
