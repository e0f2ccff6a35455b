import torch

from t2v.nn.temporal_conv import TemporalConv


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
