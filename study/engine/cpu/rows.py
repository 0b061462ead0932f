"""Kernels for batch norm and ReLU over rows of features, compiled on first use; see `kernels`.

All arrays are float32 or float64: features are [M, B, C], and what belongs to channels is [M, C].
"""

import numpy as np

from study.engine.cpu.kernels import BLOCK, Features, compiled, moments


@compiled
def moments_of_members(features: Features, mean: Features, variance: Features) -> None:
    """Fill the mean and the biased variance over rows."""
    for m in range(len(features)):
        moments(features[m], mean[m], variance[m])


@compiled
def normalize(
    features: Features, mean: Features, scale: Features, bias: Features, relu: bool, result: Features
) -> None:
    """Fill the result with scale * (x - mean) + bias, or with ReLU of that."""
    members, rows, channels = features.shape
    zero = features.dtype.type(0)
    for m in range(members):
        shift = bias[m] - scale[m] * mean[m]
        for row in range(rows):
            x, into = features[m, row], result[m, row]
            for c in range(channels):
                value = scale[m, c] * x[c] + shift[c]
                # Not `max`: a NaN must stay one.
                into[c] = zero if relu and value <= 0 else value


@compiled
def normalized_gradient(
    features: Features,
    result: Features,
    gradient: Features,
    mean: Features,
    scale: Features,
    inverse: Features,
    relu: bool,
    fixed: bool,
    at_features: Features,
    total: Features,
    projection: Features,
) -> None:
    """Compute the gradients of `normalize`.

    Args:
        features: as given to it.
        result: what came of it.
        gradient: that at the result.
        mean: as given to it.
        scale: as given to it.
        inverse: one over the standard deviation.
        relu: as given to it.
        fixed: whether mean and deviation are no functions of the features.
        at_features: filled with the gradient at the features.
        total: filled with the sum over rows of the gradient that ReLU lets through.
        projection: filled with the sum of its product with x - mean.
    """
    members, rows, channels = features.shape
    zero = features.dtype.type(0)
    block, product = np.zeros_like(mean[0]), np.zeros_like(mean[0])
    slope, offset = np.zeros_like(mean[0]), np.zeros_like(mean[0])
    for m in range(members):
        sums, products = np.zeros(channels), np.zeros(channels)
        for start in range(0, rows, BLOCK):
            block[:] = 0
            product[:] = 0
            for row in range(start, min(start + BLOCK, rows)):
                for c in range(channels):
                    through = zero if relu and result[m, row, c] <= 0 else gradient[m, row, c]
                    block[c] += through
                    product[c] += through * (features[m, row, c] - mean[m, c])
            for c in range(channels):
                sums[c] += block[c]
                products[c] += product[c]
        for c in range(channels):
            total[m, c], projection[m, c] = sums[c], products[c]
            if not fixed:
                # Ioffe and Szegedy (2015), section 3: the gradient loses its components along the mean and along x.
                offset[c] = -scale[m, c] * sums[c] / rows
                slope[c] = -scale[m, c] * inverse[m, c] * inverse[m, c] * products[c] / rows
        for row in range(rows):
            for c in range(channels):
                through = zero if relu and result[m, row, c] <= 0 else gradient[m, row, c]
                at_features[m, row, c] = (
                    scale[m, c] * through + (features[m, row, c] - mean[m, c]) * slope[c] + offset[c]
                )
