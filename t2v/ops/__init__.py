"""Functions on tensors: the factorized space-time ops."""

from t2v.ops.backend import current_backend, use_backend
from t2v.ops.functional import (
    add,
    add_to_frames,
    attention,
    geglu,
    group_norm,
    group_norm_silu,
    relative_position_bias,
    temporal_attention,
    temporal_conv,
    temporal_conv_with_statistics,
    to_images,
    to_tokens,
)

__all__ = [
    "add",
    "add_to_frames",
    "attention",
    "current_backend",
    "geglu",
    "group_norm",
    "group_norm_silu",
    "relative_position_bias",
    "temporal_attention",
    "temporal_conv",
    "temporal_conv_with_statistics",
    "to_images",
    "to_tokens",
    "use_backend",
]
