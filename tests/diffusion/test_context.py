import itertools

import pytest
import torch

from t2v.diffusion.context import in_windows, pyramid, window_starts

T, TEXT = torch.tensor(500), torch.zeros(1, 3, 4)


@pytest.mark.parametrize(("length", "overlap"), [(16, 4), (16, 0), (8, 7), (5, 2), (1, 0)])
@pytest.mark.parametrize("num_frames", [1, 5, 16, 17, 20, 33, 64])
def test_windows_cover_all_frames_and_overlap(num_frames, length, overlap):
    starts = window_starts(num_frames, length, overlap)
    assert starts[0] == 0 and starts[-1] + length >= num_frames
    assert starts[-1] + length == num_frames or num_frames < length
    for first, second in itertools.pairwise(starts):
        assert 0 < second - first <= length - overlap


def test_pyramid_rises_and_falls():
    assert pyramid(5).tolist() == [1, 2, 3, 2, 1]
    assert pyramid(4).tolist() == [1, 2, 2, 1]


@pytest.mark.parametrize("num_frames", [3, 8, 9, 21])
def test_a_network_of_single_frames_is_unchanged(num_frames):
    x = torch.randn(2, 4, num_frames, 3, 2, generator=torch.Generator().manual_seed(0))
    windowed = in_windows(lambda x, t, text: x.sin() + t, 8, 3)
    assert torch.allclose(windowed(x, T, TEXT), x.sin() + T, rtol=1e-6)


def test_windows_are_averaged_with_their_weights():
    """Two windows of 4 over 6 frames; each answers with the mean of what it sees."""
    x = torch.arange(6.0)[None, None, :, None, None]
    out = in_windows(lambda x, t, text: x.mean(2, keepdim=True).expand_as(x), 4, 2)(x, T, TEXT).flatten()
    first, second = 1.5, 3.5
    mixed = [(2 * first + 1 * second) / 3, (1 * first + 2 * second) / 3]
    assert torch.allclose(out, torch.tensor([first, first, *mixed, second, second]))


def test_a_network_sees_at_most_a_window_and_its_own_text():
    seen = []

    def network(x, timestep, text):
        seen.append((x.shape[2], text[0, :, 0, 0].tolist()))
        return torch.cat([x, x], dim=1).half()

    text = torch.arange(10.0)[None, :, None, None].expand(2, 10, 3, 4)
    out = in_windows(network, 6, 2)(torch.zeros(2, 4, 10, 1, 1), T, text)
    assert seen == [(6, [0, 1, 2, 3, 4, 5]), (6, [4, 5, 6, 7, 8, 9])]
    assert out.shape == (2, 8, 10, 1, 1) and out.dtype == torch.float16
