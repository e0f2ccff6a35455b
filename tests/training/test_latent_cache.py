import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from t2v.models.autoencoder import AutoencoderKL
from t2v.training.latent_cache import LatentMoments, cache_key, cached, encode_pictures, in_batches


def moments() -> LatentMoments:
    return LatentMoments(torch.randn(5, 4, 2, 2).half(), torch.rand(5, 4, 2, 2).half())


def test_cached_computes_once(tmp_path: Path) -> None:
    made = moments()
    first = cached(tmp_path / "cache", "key", lambda: made)
    second = cached(tmp_path / "cache", "key", lambda: pytest.fail("computed again"))
    assert torch.equal(first.mean, second.mean) and torch.equal(first.std, second.std)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["latents-key.safetensors"]


def test_cached_leaves_nothing_when_interrupted(tmp_path: Path) -> None:
    def fail() -> LatentMoments:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, "key", fail)
    assert not list(tmp_path.iterdir())


def test_cache_key_changes_with_weights_content_and_settings(tiny_image_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_image_model, tmp_path / "other")
    other = AutoencoderKL.from_pretrained(tmp_path / "other" / "vae")
    other.encoder.conv_in.bias.data += 1e-3  # type: ignore[operator]
    other.save_pretrained(tmp_path / "other" / "vae")
    keys = [
        cache_key(tiny_image_model, ["a", "b"], {"resolution": 32}),
        cache_key(tmp_path / "other", ["a", "b"], {"resolution": 32}),
        cache_key(tiny_image_model, ["a", "c"], {"resolution": 32}),
        cache_key(tiny_image_model, ["ab"], {"resolution": 32}),
        cache_key(tiny_image_model, ["a", "b"], {"resolution": 64}),
    ]
    assert len(set(keys)) == 5
    assert keys[0] == cache_key(tiny_image_model, iter(["a", "b"]), {"resolution": 32})


def test_encode_pictures_scales_latents(tiny_image_model: Path) -> None:
    autoencoder = AutoencoderKL.from_pretrained(tiny_image_model / "vae")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    result = encode_pictures(autoencoder, in_batches(pixels, 2), torch.device("cpu"), None)  # type: ignore[arg-type]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        posterior = autoencoder.encode(images)
    scale = autoencoder.config.scaling_factor
    assert result.mean.dtype == torch.float16 and result.mean.shape == (5, 4, 8, 8)
    assert torch.allclose(result.mean.float(), posterior.mean * scale, atol=1e-3)
    assert torch.allclose(result.std.float(), posterior.std * scale, atol=1e-3)


def test_latent_moments_draw_means_and_samples() -> None:
    made = moments()
    indices = torch.tensor([[0, 3], [4, 4]])
    assert torch.equal(made.draw(indices, None), made.mean[indices].float())
    noise = torch.randn(2, 2, 4, 2, 2)
    expected = made.mean[indices].float() + made.std[indices].float() * noise
    assert torch.equal(made.draw(indices, noise), expected)
