import math

import torch

from t2v.nn.embeddings import FpsEmbedding, TimestepEmbedding, sinusoidal_embedding


def test_sinusoidal_embedding_matches_its_definition() -> None:
    out = sinusoidal_embedding(torch.tensor([0.0, 7.0]), 4)
    expected = [[0, 0, 1, 1], [math.sin(7), math.sin(0.07), math.cos(7), math.cos(0.07)]]
    torch.testing.assert_close(out, torch.tensor(expected))


def test_sinusoidal_embedding_flips_and_shifts() -> None:
    out = sinusoidal_embedding(torch.tensor([3]), 4, flip_sin_to_cos=True, freq_shift=1)
    low = 3 / 10000  # half - 1 = 1: the last frequency is 1 / 10000
    torch.testing.assert_close(out, torch.tensor([[math.cos(3), math.cos(low), math.sin(3), math.sin(low)]]))


def test_fps_embedding_is_zero_at_first_and_trainable() -> None:
    embedding = FpsEmbedding(8, 16)
    out = embedding(torch.tensor([8.0, 24.0]))
    assert out.shape == (2, 16)
    assert not out.any()
    (out - 1).square().sum().backward()
    assert embedding.linear_2.weight.grad is not None
    assert embedding.linear_2.weight.grad.any()


def test_timestep_embedding_has_the_public_keys() -> None:
    names = set(TimestepEmbedding(8, 16).state_dict())
    assert names == {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}
