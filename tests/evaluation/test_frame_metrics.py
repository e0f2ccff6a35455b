"""Known values, equality with other programs, and monotony under what makes videos worse."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from t2v.evaluation.frame_metrics import flow_error, psnr, sharpness, ssim
from t2v.evaluation.temporal_metrics import flicker, warping_error


@pytest.fixture(scope="module")
def clip():
    """A textured picture that moves evenly over another: uint8 (8, 64, 64, 3)."""
    rng = np.random.default_rng(0)
    ground, patch = (np.kron(rng.integers(40, 216, (n, n, 3)), np.ones((4, 4, 1))) for n in (16, 5))
    frames = np.repeat(ground[None], 8, 0)
    for index, frame in enumerate(frames):
        frame[20:40, 4 + 3 * index : 24 + 3 * index] = patch
    return frames.astype(np.uint8)


def noisy(frames, amount, seed=0):
    noise = np.random.default_rng(seed).normal(0, 1, frames.shape)
    return (frames + amount * noise).clip(0, 255).astype(np.uint8)


def blurred(frames, times):
    soft = frames.astype(float)
    for _ in range(times):
        for axis in (1, 2):
            soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    return soft.round().astype(np.uint8)


def test_ssim_equals_scikit_image_and_torchmetrics(clip):
    metrics = pytest.importorskip("skimage.metrics")
    image = pytest.importorskip("torchmetrics.functional.image")
    other = noisy(clip, 20)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    peer = np.mean(
        [metrics.structural_similarity(a, b, channel_axis=-1, **options) for a, b in zip(other, clip, strict=True)]
    )
    assert ssim(other, clip) == pytest.approx(peer, rel=1e-6)
    tensors = (torch.from_numpy(values).permute(0, 3, 1, 2).double() for values in (other, clip))
    _, full = image.structural_similarity_index_measure(*tensors, data_range=255.0, return_full_image=True)
    assert ssim(other, clip) == pytest.approx(full[..., 5:-5, 5:-5].mean().item(), rel=1e-6)  # it mirrors the edges


def test_psnr_equals_scikit_image(clip):
    metrics = pytest.importorskip("skimage.metrics")
    other = noisy(clip, 20)
    peer = np.mean([metrics.peak_signal_noise_ratio(b, a) for a, b in zip(other, clip, strict=True)])
    assert psnr(other, clip) == pytest.approx(peer, rel=1e-6)


def test_flicker_in_grey_levels():
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (100, 110, 90)])
    assert flicker(frames) == 15
    assert flicker(frames[:1].repeat(3, 0)) == 0


def test_everything_worsens_with_noise(clip):
    pytest.importorskip("cv2")
    steps = [noisy(clip, amount) for amount in (0, 8, 16, 32)]
    for measure, sign in (
        (lambda frames: psnr(frames, clip), -1),
        (lambda frames: ssim(frames, clip), -1),
        (flicker, 1),
        (warping_error, 1),
        (lambda frames: warping_error(frames, clip), 1),
        (lambda frames: flow_error(frames, clip), 1),
        (sharpness, 1),
    ):
        values = [sign * measure(frames) for frames in steps]
        assert all(b > a for a, b in pairwise(values))


def test_likeness_and_sharpness_fall_with_blur(clip):
    steps = [blurred(clip, times) for times in (0, 1, 3, 9)]
    for measure in (lambda frames: psnr(frames, clip), lambda frames: ssim(frames, clip), sharpness):
        values = [measure(frames) for frames in steps]
        assert all(b < a for a, b in pairwise(values))


def test_shuffled_frames_are_unsteady_though_each_is_as_good(clip):
    pytest.importorskip("cv2")
    shuffled = clip[[0, 4, 1, 6, 2, 7, 3, 5]]
    assert sharpness(shuffled) == pytest.approx(sharpness(clip))
    for measure in (flicker, warping_error, lambda frames: flow_error(frames, clip)):
        assert measure(shuffled) > 1.5 * measure(clip)


def test_warping_error_forgives_motion_and_not_flicker(clip):
    pytest.importorskip("cv2")
    moving = np.stack([np.roll(clip[0], 2 * index, 1) for index in range(6)])[:, :, 12:52]
    flashing = moving.copy()
    flashing[1::2] = (flashing[1::2] * 0.8).astype(np.uint8)
    plain = np.square(np.diff(moving.astype(float) / 255, axis=0)).mean()
    assert warping_error(moving) < 0.2 * plain
    assert warping_error(flashing, moving) > 3 * warping_error(moving)


def test_covered_pixels_do_not_count():
    pytest.importorskip("cv2")
    from t2v.evaluation.temporal_metrics import _is_visible

    there = np.zeros((4, 6, 2), np.float32)
    back = np.zeros((4, 6, 2), np.float32)
    back[0, 0], there[1, 5] = (5, 0), (3, 0)
    visible = _is_visible(there, back)
    assert not visible[0, 0] and not visible[1, 5] and visible.sum() == 22
