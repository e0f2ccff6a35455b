from fractions import Fraction

import numpy as np
import pytest
import torch

from t2v.data.transforms import cover_size, crop, cut, fit_square, to_model_range, to_pixels


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


@pytest.mark.parametrize(
    ("size", "target", "pixel_aspect", "expected"),
    [
        ((36, 64), (18, 18), 1, (18, 32)),
        ((64, 36), (18, 18), 1, (32, 18)),
        ((36, 64), (18, 32), 1, (18, 32)),
        ((100, 100), (50, 50), Fraction(4, 3), (50, 67)),
        ((3, 7), (8, 16), 1, (8, 19)),  # enlarged
    ],
)
def test_cover_size_keeps_the_shape(
    size: tuple[int, int], target: tuple[int, int], pixel_aspect: Fraction, expected: tuple[int, int]
) -> None:
    assert cover_size(size, target, Fraction(pixel_aspect)) == expected


@pytest.mark.parametrize(
    ("place", "corner"),
    [((0.0, 0.0), (0, 0)), ((0.5, 0.5), (1, 2)), ((0.999999, 0.999999), (2, 4)), ((0.4, 0.2), (1, 1))],
)
def test_cut_takes_one_window_from_all_frames(place: tuple[float, float], corner: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 6, 10, 3))
    top, left = corner
    assert np.array_equal(cut(frames, (4, 6), place), frames[:, top : top + 4, left : left + 6])
