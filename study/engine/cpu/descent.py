"""Kernels for whole steps of plain gradient descent by networks of linear layers, compiled on first use; see `kernels`.

A step of a few samples does little arithmetic with each weight. What takes its time is to call some ten operations a
layer, and to move all members' weights through memory at each of them. Here many steps are one call, and a member takes
all of them before the next member begins, so that its weights stay in the processor's cache; each weight is read once
on the way forward, and once for both the gradient below it and its own change.

All arrays are float32 or float64, a member's features [B, C], its weights [O, I], and what belongs to channels [C].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.engine.cpu.dense import LINEAR, NORM
from study.engine.cpu.kernels import Features, compiled

MANY, ROWS = 20, 96
"""From how many samples a library's products of matrices are faster, and for how many rows of a weight at a time."""
CACHE = 128 * 1024
"""The bytes of features that stay in the processor's cache while all rows of a weight are multiplied with them."""
Parameters = tuple[Sequence[Features], ...]


@compiled
def take_steps(
    images: Features,
    labels: NDArray[np.int64],
    layers: NDArray[np.int64],
    parameters: Parameters,
    norms: Features,
    seen: int,
    rates: Features,
    losses: Features,
    features: Sequence[Features],
    moments: Sequence[Features],
    gradients: Features,
    sums: Features,
) -> None:
    """Take steps of plain gradient descent on the cross-entropy, in train mode.

    Args:
        images: [M, steps, B, I], the members' own.
        labels: [M, steps, B].
        layers: [L, 2], in their order: each layer's kind, and its place among the layers of its kind.
        parameters: all of them are changed. For each linear layer the weights [M, O, I], and the biases [M, O], or
            [M, 0] where it has none; for each batch norm scales, shifts, running means and running variances [M, C].
        norms: of each batch norm [2], epsilon and momentum, where one below zero stands for the mean over all batches.
        seen: how many batches the running statistics have seen.
        rates: of each member [2], the learning rate and the weight decay.
        losses: [M]; the mean loss of each step is added to them.
        features: room for [B, C] before each layer and after the last one.
        moments: room for [2, C] of each batch norm.
        gradients: room for [2, B * C] with the largest C.
        sums: room for [2, C] with the largest C.
    """
    for m in range(len(images)):
        rate = rates[m, 0]
        keep = images.dtype.type(1) - rate * rates[m, 1]
        for step in range(images.shape[1]):
            features[0][:] = images[m, step]
            _go_forward(m, layers, parameters, norms, seen + step + 1, features, moments)
            losses[m] += _cross_entropy(features[len(layers)], labels[m, step], _shaped(gradients[0], features[-1]))
            _go_back(m, layers, parameters, rate, keep, features, moments, gradients, sums)


@compiled
def _go_forward(
    m: int,
    layers: NDArray[np.int64],
    parameters: Parameters,
    norms: Features,
    seen: int,
    features: Sequence[Features],
    moments: Sequence[Features],
) -> None:
    """Fill the features after each layer of a member, and update its running statistics."""
    weights, biases, scales, shifts, means, variances = parameters
    for layer in range(len(layers)):
        kind, place = layers[layer]
        given, result = features[layer], features[layer + 1]
        if kind == LINEAR:
            if given.nbytes > CACHE:
                np.dot(given, weights[place][m].T, result)
            else:
                _multiply(given, weights[place][m], result)
            bias = biases[place][m]
            for row in range(len(result)):
                for c in range(len(bias)):
                    result[row, c] += bias[c]
        elif kind == NORM:
            epsilon, momentum = norms[place]
            if momentum < 0:
                momentum = given.dtype.type(1 / seen)
            _find_moments(given, epsilon, momentum, means[place][m], variances[place][m], moments[place])
            _normalize(given, scales[place][m], shifts[place][m], moments[place], result)
        else:
            _rectify(given, given, result)


@compiled
def _go_back(
    m: int,
    layers: NDArray[np.int64],
    parameters: Parameters,
    rate: float,
    keep: float,
    features: Sequence[Features],
    moments: Sequence[Features],
    gradients: Features,
    sums: Features,
) -> None:
    """Change each parameter of a member once its gradient is known, from that at the last layer, gradients[0]."""
    weights, biases, scales, shifts, _, _ = parameters
    for layer in range(len(layers) - 1, -1, -1):
        kind, place = layers[layer]
        given, result = features[layer], features[layer + 1]
        turn = (len(layers) - 1 - layer) % 2
        above, below = _shaped(gradients[turn], result), _shaped(gradients[1 - turn], given)
        if kind == LINEAR:
            _change_bias(above, biases[place][m], rate, keep)
            if len(given) < MANY:
                _descend(given, weights[place][m], above, rate, keep, layer > 0, below)
            else:
                _descend_by_products(given, weights[place][m], above, rate, keep, layer > 0, below)
        elif kind == NORM:
            _denormalize(given, scales[place][m], shifts[place][m], moments[place], above, rate, keep, sums, below)
        else:
            _rectify(result, above, below)


@compiled
def _shaped(room: Features, like: Features) -> Any:
    """Return the start of some room [n] in another array's shape."""
    return room[: like.size].reshape(like.shape)


@compiled
def _multiply(features: Features, weight: Features, result: Features) -> None:
    """Fill the result with features times the transposed weight, four rows of the weight at a time."""
    samples, inputs = features.shape
    outputs = len(weight)
    zero = features.dtype.type(0)
    four = outputs - outputs % 4
    for o in range(0, four, 4):
        w0, w1, w2, w3 = weight[o], weight[o + 1], weight[o + 2], weight[o + 3]
        if samples % 2:
            x = features[0]
            s0, s1, s2, s3 = zero, zero, zero, zero
            for i in range(inputs):
                s0 += x[i] * w0[i]
                s1 += x[i] * w1[i]
                s2 += x[i] * w2[i]
                s3 += x[i] * w3[i]
            result[0, o], result[0, o + 1], result[0, o + 2], result[0, o + 3] = s0, s1, s2, s3
        for row in range(samples % 2, samples, 2):
            x, y = features[row], features[row + 1]
            s0, s1, s2, s3 = zero, zero, zero, zero
            t0, t1, t2, t3 = zero, zero, zero, zero
            for i in range(inputs):
                s0 += x[i] * w0[i]
                s1 += x[i] * w1[i]
                s2 += x[i] * w2[i]
                s3 += x[i] * w3[i]
                t0 += y[i] * w0[i]
                t1 += y[i] * w1[i]
                t2 += y[i] * w2[i]
                t3 += y[i] * w3[i]
            result[row, o], result[row, o + 1], result[row, o + 2], result[row, o + 3] = s0, s1, s2, s3
            below = row + 1
            result[below, o], result[below, o + 1], result[below, o + 2], result[below, o + 3] = t0, t1, t2, t3
    for o in range(four, outputs):
        w0 = weight[o]
        for row in range(samples):
            x = features[row]
            s0 = zero
            for i in range(inputs):
                s0 += x[i] * w0[i]
            result[row, o] = s0


@compiled
def _descend(
    features: Features, weight: Features, above: Features, rate: float, keep: float, go_on: bool, below: Features
) -> None:
    """Fill the gradient below, if it is asked for, and change the weight; both while its rows are in the cache."""
    samples, inputs = features.shape
    outputs = len(weight)
    if go_on:
        below[:] = 0
    last = outputs - outputs % 8
    for o in range(0, last, 8):
        w0, w1, w2, w3 = weight[o], weight[o + 1], weight[o + 2], weight[o + 3]
        w4, w5, w6, w7 = weight[o + 4], weight[o + 5], weight[o + 6], weight[o + 7]
        if go_on:
            for row in range(samples):
                into = below[row]
                g0, g1, g2, g3 = above[row, o], above[row, o + 1], above[row, o + 2], above[row, o + 3]
                g4, g5, g6, g7 = above[row, o + 4], above[row, o + 5], above[row, o + 6], above[row, o + 7]
                for i in range(inputs):
                    into[i] += (g0 * w0[i] + g1 * w1[i] + g2 * w2[i] + g3 * w3[i]) + (
                        g4 * w4[i] + g5 * w5[i] + g6 * w6[i] + g7 * w7[i]
                    )
        for each in range(o, o + 8):
            _change(features, weight[each], above[:, each], rate, keep)
    for o in range(last, outputs):
        w0 = weight[o]
        if go_on:
            for row in range(samples):
                into, g0 = below[row], above[row, o]
                for i in range(inputs):
                    into[i] += g0 * w0[i]
        _change(features, w0, above[:, o], rate, keep)


@compiled
def _descend_by_products(
    features: Features, weight: Features, above: Features, rate: float, keep: float, go_on: bool, below: Features
) -> None:
    """Do as `_descend`, by a library's products of matrices, for as many rows of the weight as stay in the cache."""
    if go_on:
        np.dot(above, weight, below)
    outputs, inputs = weight.shape
    samples = len(features)
    for start in range(0, outputs, ROWS):
        rows = min(ROWS, outputs - start)
        gradient, product = np.empty((rows, samples), features.dtype), np.empty((rows, inputs), features.dtype)
        for row in range(samples):
            for o in range(rows):
                gradient[o, row] = above[row, start + o]
        np.dot(gradient, features, product)
        for o in range(rows):
            of_weight = weight[start + o]
            for i in range(inputs):
                of_weight[i] = keep * of_weight[i] - rate * product[o, i]


@compiled
def _change(features: Features, row: Features, above: Features, rate: float, keep: float) -> None:
    """Change a row of a weight, five samples at a time, by which the paper's batches can be divided."""
    samples, inputs = features.shape
    first = samples % 5
    if first:
        for i in range(inputs):
            row[i] = keep * row[i] - rate * above[0] * features[0, i]
        keep = features.dtype.type(1)
    for b in range(1, first):
        x, g = features[b], -rate * above[b]
        for i in range(inputs):
            row[i] += g * x[i]
    for b in range(first, samples, 5):
        x0, x1, x2, x3, x4 = features[b], features[b + 1], features[b + 2], features[b + 3], features[b + 4]
        g0, g1, g2 = -rate * above[b], -rate * above[b + 1], -rate * above[b + 2]
        g3, g4 = -rate * above[b + 3], -rate * above[b + 4]
        for i in range(inputs):
            row[i] = keep * row[i] + g0 * x0[i] + g1 * x1[i] + g2 * x2[i] + g3 * x3[i] + g4 * x4[i]
        keep = features.dtype.type(1)


@compiled
def _change_bias(above: Features, bias: Features, rate: float, keep: float) -> None:
    """Change a bias, whose gradient is the sum over samples."""
    for c in range(len(bias)):
        bias[c] *= keep
    for row in range(len(above)):
        for c in range(len(bias)):
            bias[c] -= rate * above[row, c]


@compiled
def _find_moments(
    features: Features, epsilon: float, momentum: float, mean: Features, variance: Features, moments: Features
) -> None:
    """Fill moments [2, C], the mean over samples and one over the standard deviation, and update the running ones."""
    samples, channels = features.shape
    number, one = features.dtype.type(samples), features.dtype.type(1)
    center, inverse = moments[0], moments[1]
    center[:] = 0
    inverse[:] = 0
    for row in range(samples):
        for c in range(channels):
            center[c] += features[row, c]
    for c in range(channels):
        center[c] /= number
    for row in range(samples):
        for c in range(channels):
            inverse[c] += (features[row, c] - center[c]) ** 2
    for c in range(channels):
        mean[c] += momentum * (center[c] - mean[c])
        variance[c] += momentum * (inverse[c] / (number - one) - variance[c])
        inverse[c] = one / np.sqrt(inverse[c] / number + epsilon)


@compiled
def _normalize(features: Features, scale: Features, shift: Features, moments: Features, result: Features) -> None:
    """Fill the result with batch norm by these moments."""
    samples, channels = features.shape
    center, inverse = moments[0], moments[1]
    for row in range(samples):
        for c in range(channels):
            result[row, c] = scale[c] * inverse[c] * (features[row, c] - center[c]) + shift[c]


@compiled
def _denormalize(
    features: Features,
    scale: Features,
    shift: Features,
    moments: Features,
    above: Features,
    rate: float,
    keep: float,
    sums: Features,
    below: Features,
) -> None:
    """Fill the gradient below batch norm, and change its scale and shift."""
    samples, channels = features.shape
    number = features.dtype.type(samples)
    center, inverse = moments[0], moments[1]
    total, projection = sums[0, :channels], sums[1, :channels]
    total[:] = 0
    projection[:] = 0
    for row in range(samples):
        for c in range(channels):
            total[c] += above[row, c]
            projection[c] += above[row, c] * (features[row, c] - center[c]) * inverse[c]
    for row in range(samples):
        for c in range(channels):
            # Ioffe and Szegedy (2015), section 3: the gradient loses its components along the mean and along x.
            along = total[c] + (features[row, c] - center[c]) * inverse[c] * projection[c]
            below[row, c] = scale[c] * inverse[c] * (above[row, c] - along / number)
    for c in range(channels):
        scale[c] = keep * scale[c] - rate * projection[c]
        shift[c] = keep * shift[c] - rate * total[c]


@compiled
def _rectify(decides: Features, given: Features, result: Features) -> None:
    """Fill the result with what is given where another is above zero, or NaN, and with zero elsewhere."""
    zero = decides.dtype.type(0)
    for row in range(len(decides)):
        for c in range(decides.shape[1]):
            result[row, c] = zero if decides[row, c] <= 0 else given[row, c]


@compiled
def _cross_entropy(logits: Features, labels: NDArray[np.int64], gradient: Features) -> Any:
    """Return the mean cross-entropy, and fill its gradient at the logits."""
    samples, classes = logits.shape
    loss, number = logits.dtype.type(0), logits.dtype.type(samples)
    for row in range(samples):
        largest = logits[row].max()
        total = logits.dtype.type(0)
        for c in range(classes):
            gradient[row, c] = np.exp(logits[row, c] - largest)
            total += gradient[row, c]
        for c in range(classes):
            gradient[row, c] /= total * number
        gradient[row, labels[row]] -= logits.dtype.type(1) / number
        loss += np.log(total) + largest - logits[row, labels[row]]
    return loss / number
