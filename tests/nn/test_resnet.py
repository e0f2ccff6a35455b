import torch

from t2v.nn.resnet import Downsample, ResnetBlock, Upsample


def images(n: int, c: int, h: int, w: int) -> torch.Tensor:
    return torch.randn(n, h, w, c, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)


def test_resnet_block_is_the_same_with_and_without_gradients() -> None:
    block, x, time = ResnetBlock(8, 16, 12, 4, 1e-5), images(6, 8, 3, 5), torch.randn(2, 12)
    with torch.no_grad():
        out = block(x, time, 3)
    torch.testing.assert_close(block(x, time, 3), out)


def test_resnet_block_gives_each_video_its_own_time() -> None:
    block, x = ResnetBlock(8, 8, 12, 4, 1e-5), images(6, 8, 3, 5)
    time = torch.randn(2, 12)
    both = block(x, time, 3)
    torch.testing.assert_close(both[3:], block(x[3:], time[1:], 3))


def test_temporal_convolutions_change_nothing_at_first_and_skip_single_frames() -> None:
    x, time = images(6, 8, 4, 6), torch.randn(6, 12)
    block, down, up = ResnetBlock(8, 8, 12, 4, 1e-5), Downsample(8, 1), Upsample(8)
    before = block(x, time[:2], 3), down(x, 3), up(x, (8, 12), 3)
    single = block(x, time, 1), down(x, 1), up(x, (8, 12), 1)
    for module in (block, down, up):
        module.add_temporal()
    after = block(x, time[:2], 3), down(x, 3), up(x, (8, 12), 3)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)
    for module in (block, down, up):
        for name, parameter in module.named_parameters():
            if "temporal" in name:
                torch.nn.init.normal_(parameter)
    for a, b in zip(single, (block(x, time, 1), down(x, 1), up(x, (8, 12), 1)), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(down(x, 3), before[1])


def test_downsample_with_padding_zero_pads_right_and_bottom() -> None:
    down, x = Downsample(8, 0), images(2, 8, 4, 6)
    expected = torch.nn.functional.conv2d(x, down.conv.weight, down.conv.bias, stride=2, padding=1)
    assert down(x, 1).shape == expected.shape
    inner = torch.nn.functional.conv2d(x, down.conv.weight, down.conv.bias, stride=2)
    torch.testing.assert_close(down(x, 1)[:, :, :1, :2], inner)
