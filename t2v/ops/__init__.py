"""Functions on tensors: the factorized space-time ops."""

from t2v.ops.functional import (
    add,
    attention,
    geglu,
    group_norm,
    group_norm_silu,
    relative_position_bias,
    temporal_attention,
    temporal_conv,
    to_images,
    to_tokens,
)

__all__ = [
    "add",
    "attention",
    "geglu",
    "group_norm",
    "group_norm_silu",
    "relative_position_bias",
    "temporal_attention",
    "temporal_conv",
    "to_images",
    "to_tokens",
]
