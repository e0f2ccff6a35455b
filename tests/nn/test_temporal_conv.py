import torch
from torch.nn import functional as F

from t2v.nn.temporal_conv import TemporalConv, TemporalConvBlock


def test_temporal_conv_is_identity_at_first() -> None:
    x = torch.randn(6, 5, 3, 4, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    assert torch.equal(TemporalConv(5)(x, 3), x)


def test_temporal_conv_reaches_one_frame_to_each_side_of_the_same_video() -> None:
    conv = TemporalConv(1)
    torch.nn.init.ones_(conv.weight)
    x = torch.zeros(8, 1, 1, 1)
    x[2] = x[4] = 1  # last but one frame of the first video, first of the second
    assert conv(x, 4).flatten().tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


def test_temporal_conv_prints_its_size() -> None:
    assert repr(TemporalConv(5)) == "TemporalConv(5, kernel_size=3)"


def test_a_block_is_four_convolutions_with_norms_over_all_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    block = TemporalConvBlock(6, 2).double().requires_grad_(False)
    for parameter in block.parameters():
        parameter += torch.randn(parameter.shape, generator=generator)
    x = torch.randn(10, 6, 3, 4, dtype=torch.float64, generator=generator).to(memory_format=torch.channels_last)
    video = x.unflatten(0, (2, 5)).transpose(1, 2)  # (B, C, F, H, W)
    expected = video
    for norm, conv in zip(block.norms, block.convs, strict=True):
        expected = F.silu(F.group_norm(expected, 2, norm.weight, norm.bias, 1e-5))
        expected = F.conv3d(expected, conv.weight[..., None], conv.bias, padding=(1, 0, 0))
    got = block(x.clone(memory_format=torch.channels_last), 5).unflatten(0, (2, 5)).transpose(1, 2)
    torch.testing.assert_close(got, expected + video)
