"""Random weights under the published names, a few channels wide."""

import torch

I3D_BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
WIDTH = 3


def _normed(weights, name, layer, shape, generator):
    weights[f"{name}.{layer}.weight"] = torch.randn(shape, generator=generator) * (2 / shape[1:].numel()) ** 0.5
    for part, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
        jitter = 0.2 * torch.rand(shape[0], generator=generator)
        weights[f"{name}.bn.{part}"] = value + jitter
    weights[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)


def i3d_weights(num_classes=10, seed=0):
    generator, weights = torch.Generator().manual_seed(seed), {}

    def unit(name, inputs, kernel):
        _normed(weights, name, "conv3d", torch.Size((WIDTH, inputs, kernel, kernel, kernel)), generator)

    unit("Conv3d_1a_7x7", 3, 7)
    unit("Conv3d_2b_1x1", WIDTH, 1)
    unit("Conv3d_2c_3x3", WIDTH, 3)
    inputs = WIDTH
    for block in I3D_BLOCKS:
        for branch in ("b0", "b1a", "b2a", "b3b"):
            unit(f"Mixed_{block}.{branch}", inputs, 1)
        for branch in ("b1b", "b2b"):
            unit(f"Mixed_{block}.{branch}", WIDTH, 3)
        inputs = 4 * WIDTH
    weights["logits.conv3d.weight"] = 10 * torch.randn(num_classes, inputs, 1, 1, 1, generator=generator)
    weights["logits.conv3d.bias"] = torch.randn(num_classes, generator=generator)
    return weights


def inception_weights(num_classes=12, seed=0):
    generator, weights = torch.Generator().manual_seed(seed), {}

    def unit(name, inputs, kernel):
        _normed(weights, name, "conv", torch.Size((WIDTH, inputs, *kernel)), generator)
        return WIDTH

    def block(name, inputs, branches, pooled=0):
        """Branches as chains of (name, kernel), a name with several as a fork; their widths together."""
        total = pooled
        for chain in branches:
            channels = inputs
            for names, *kernels in chain:
                forks = [unit(f"{name}.{n}", channels, k) for n, k in zip(names.split(), kernels, strict=True)]
                channels = sum(forks)
            total += channels
        return total

    width = 3
    for name, kernel in (("1a", 3), ("2a", 3), ("2b", 3), ("3b", 1), ("4a", 3)):
        width = unit(f"Conv2d_{name}_{kernel}x{kernel}", width, (kernel, kernel))
    one, three, pool = (1, 1), (3, 3), [("branch_pool", (1, 1))]
    double = [("branch3x3dbl_1", one), ("branch3x3dbl_2", three), ("branch3x3dbl_3", three)]
    row, column = (1, 7), (7, 1)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        fives = [("branch5x5_1", one), ("branch5x5_2", (5, 5))]
        width = block(name, width, ([("branch1x1", one)], fives, double, pool))
    width = block("Mixed_6a", width, ([("branch3x3", three)], double), width)
    sevens = [("branch7x7_1", one), ("branch7x7_2", row), ("branch7x7_3", column)]
    kernels = (one, column, row, column, row)
    sevens_double = [(f"branch7x7dbl_{i + 1}", kernel) for i, kernel in enumerate(kernels)]
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        width = block(name, width, ([("branch1x1", one)], sevens, sevens_double, pool))
    threes = [("branch3x3_1", one), ("branch3x3_2", three)]
    mixed = [(f"branch7x7x3_{i + 1}", kernel) for i, kernel in enumerate((one, row, column, three))]
    width = block("Mixed_7a", width, (threes, mixed), width)
    fork, wide = ("branch3x3_2a branch3x3_2b", (1, 3), (3, 1)), ("branch3x3dbl_3a branch3x3dbl_3b", (1, 3), (3, 1))
    for name in ("Mixed_7b", "Mixed_7c"):
        width = block(name, width, ([("branch1x1", one)], [("branch3x3_1", one), fork], [*double[:2], wide], pool))
    weights["fc.weight"] = 5 * torch.randn(num_classes, width, generator=generator)
    weights["fc.bias"] = torch.randn(num_classes, generator=generator)
    return weights


def alexnet_weights(seed=0):
    generator, weights, inputs = torch.Generator().manual_seed(seed), {}, 3
    for place, kernel, width in ((0, 11, 64), (3, 5, 192), (6, 3, 384), (8, 3, 256), (10, 3, 256)):
        shape = (width, inputs, kernel, kernel)
        weights[f"features.{place}.weight"] = torch.randn(shape, generator=generator) / (inputs * kernel**2) ** 0.5
        weights[f"features.{place}.bias"] = 0.1 * torch.randn(width, generator=generator)
        inputs = width
    return weights


def lpips_weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    widths = enumerate((64, 192, 384, 256, 256))
    return {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator) for i, width in widths}
