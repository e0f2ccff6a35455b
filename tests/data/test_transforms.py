import numpy as np
import pytest
import torch

from t2v.data.transforms import crop, fit_square, to_model_range, to_pixels


@pytest.mark.parametrize("size", [(32, 32), (48, 20), (20, 49), (16, 16)])
def test_fit_square_cuts_the_centre(size: tuple[int, int]) -> None:
    height, width = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, height)[:, None]
    picture[..., 1] = np.linspace(0, 255, width)
    square = fit_square(picture, 16).astype(float)
    assert square.shape == (16, 16, 3)
    # ramps are symmetric about the centre, whatever was cut off
    assert abs(square[:, :, 0].mean() - 127.5) < 6 and abs(square[:, :, 1].mean() - 127.5) < 6
    short = min(size) / np.array(size)
    spans = [np.ptp(square[:, :, channel]) / 255 for channel in (0, 1)]
    assert np.allclose(spans, short, atol=0.12)


def test_model_range_and_pixels_are_inverse() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(2, 16, 16, 3).contiguous()
    images = to_model_range(pixels)
    assert images.shape == (2, 3, 16, 16) and (images.min(), images.max()) == (-1, 1)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(to_pixels(images), pixels.numpy())
    assert to_pixels(torch.full((1, 3, 2, 2), 1.7)).max() == 255


def test_crop_takes_each_square_at_its_corner() -> None:
    pixels = torch.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3)
    squares = crop(pixels, torch.tensor([0, 2]), torch.tensor([3, 1]), 3)
    assert torch.equal(squares[0], pixels[0, 0:3, 3:6]) and torch.equal(squares[1], pixels[1, 2:5, 1:4])
