"""Kernels for narrow convolutions of many networks at once, one network in each lane of a vector.

They are compiled on first use.
A convolution of a few channels leaves most of a vector register empty, whatever its loops run over. With the members of
a pack innermost in memory, one multiplication serves all of them, nothing is ever shuffled, and a row of results stays
in registers until it is complete. Where members are few, a vector takes several channels of each.

All arrays are float32 or float64. Features are [N, H, W, C * M], with the M members of a channel next to each other.
Weights are [C / G, rows, other channels, columns, G * M], where the vector's G channels are those that are written to.
"""

from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any

import numba
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

REGISTER = 64 if binding.get_host_cpu_features().get("avx512f") else 32
"""The size of a vector register in bytes."""
SPAN = 18 if REGISTER == 64 else 8
"""The most results of a row that are held in registers at once: there are 32 long ones, and 16 short ones."""
INDEX = ir.IntType(64)


class _Emitter:
    """Emits the LLVM code of an intrinsic, whose first argument is a tuple of arrays."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder = context, builder
        self.values = [self._value(kind, value) for kind, value in zip(signature.args, arguments, strict=True)]
        self.number = self.values[0][0].type.pointee
        self.align = 8 if self.number == ir.DoubleType() else 4

    def _value(self, kind: Any, value: Any) -> Any:
        """Return a literal integer as itself, an array as a pointer to its data, and a tuple as a list of values."""
        if isinstance(kind, types.IntegerLiteral):
            return kind.literal_value
        if isinstance(kind, types.Array):
            return self.context.make_array(kind)(self.context, self.builder, value).data
        if isinstance(value.type, ir.Aggregate):
            parts = zip(kind, cgutils.unpack_tuple(self.builder, value), strict=True)
            return [self._value(kind, value) for kind, value in parts]
        return value

    def index(self, start: Any, *steps: tuple[Any, Any]) -> Any:
        """Return the index that is reached from a start by steps, each a size and how many times it is taken."""
        start, *numbers = (
            number if isinstance(number, ir.Value) else INDEX(number) for number in (start, *chain(*steps))
        )
        for step, times in zip(numbers[::2], numbers[1::2], strict=True):
            start = self.builder.add(start, self.builder.mul(step, times))
        return start

    def load(self, array: Any, at: Any, members: int, lanes: int) -> Any:
        """Load a vector of the members' values from an index on, repeated where the vector has more lanes."""
        kind = ir.VectorType(self.number, members).as_pointer()
        loaded = self.builder.load(
            self.builder.bitcast(self.builder.gep(array, [self.index(at)]), kind), align=self.align
        )
        if lanes == members:
            return loaded
        order = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [lane % members for lane in range(lanes)])
        return self.builder.shuffle_vector(loaded, loaded, order)

    def store(self, vector: Any, array: Any, at: Any) -> None:
        """Write a vector from an index on."""
        pointer = self.builder.bitcast(self.builder.gep(array, [self.index(at)]), vector.type.as_pointer())
        self.builder.store(vector, pointer, align=self.align)

    def variable(self, value: Any) -> Any:
        """Return a variable that starts with a vector; LLVM will keep it in a register."""
        place = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, place)
        return place

    def add_product(self, total: Any, factor: Any, other: Any) -> Any:
        """Return the total plus a product, rounded once where the processor can."""
        product = self.builder.fmul(factor, other, flags=("contract",))
        return self.builder.fadd(total, product, flags=("contract",))

    def loop(self, times: Any) -> Any:
        """Return the context of a loop, which gives the loop's index."""
        return cgutils.for_range(self.builder, times, intp=INDEX)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _row(
    _: Any, arrays: Any, at: Any, steps: Any, counts: Any, spread: Any, width: Any, taps: Any, members: Any, lanes: Any
) -> Any:
    """Compute a row of results: result p, for p < width, is `start` plus the sum of weight j times x[p + j].

    The sum is over j < taps, and over rows and channels. Where `spread` is 1, weight j times x[p] is added to result
    p + j instead, and there are `taps` - 1 more results.
    """
    signature = types.void(arrays, at, steps, counts, spread, width, taps, members, lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emitter(context, builder, signature, arguments)
        arrays, at, steps, (rows, channels), spread, width, taps, members, lanes = emit.values
        into, start, x, w = arrays
        into_at, start_at, x_at, w_at = at
        into_step, x_step, x_row, x_channel, w_row, w_channel = steps
        results = width + (taps - 1) * spread
        parts = -(-results // SPAN)
        for part in range(parts):
            span = range(part * results // parts, (part + 1) * results // parts)
            totals = [emit.variable(emit.load(start, start_at, lanes, lanes)) for _ in span]
            with emit.loop(rows) as row, emit.loop(channels) as channel:
                from_w = emit.index(w_at, (w_row, row.index), (w_channel, channel.index))
                from_x = emit.index(x_at, (x_row, row.index), (x_channel, channel.index))
                weights = [emit.load(w, emit.index(from_w, (lanes, j)), lanes, lanes) for j in range(taps)]
                sums = {p: builder.load(total) for p, total in zip(span, totals, strict=True)}
                for q in range(width if spread else width + taps - 1):
                    reached = [(j, p) for j in range(taps) if (p := q + j if spread else q - j) in sums]
                    if reached:
                        value = emit.load(x, emit.index(from_x, (x_step, q)), members, lanes)
                        sums.update({p: emit.add_product(sums[p], weights[j], value) for j, p in reached})
                for total, value in zip(totals, sums.values(), strict=True):
                    builder.store(value, total)
            for p, total in zip(span, totals, strict=True):
                emit.store(builder.load(total), into, emit.index(into_at, (into_step, p)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _weights(
    _: Any, arrays: Any, at: Any, steps: Any, rows: Any, width: Any, taps: Any, members: Any, lanes: Any, blocks: Any
) -> Any:
    """Add to weight j of each block of channels the sum of gradient p times x[p + j], over rows and p < width."""
    signature = types.void(arrays, at, steps, rows, width, taps, members, lanes, blocks)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emitter(context, builder, signature, arguments)
        (into, gradient, x), at, steps, rows, width, taps, members, lanes, blocks = emit.values
        into_at, g_at, x_at = at
        into_block, g_step, g_row, x_step, x_row = steps
        zero = ir.Constant(ir.VectorType(emit.number, lanes), [0.0] * lanes)
        places = [(block, j) for block in range(blocks) for j in range(taps)]
        totals = {place: emit.variable(zero) for place in places}
        with emit.loop(rows) as row:
            from_g, from_x = emit.index(g_at, (g_row, row.index)), emit.index(x_at, (x_row, row.index))
            sums = {place: builder.load(totals[place]) for place in places}
            values = [emit.load(x, emit.index(from_x, (x_step, q)), members, lanes) for q in range(taps - 1)]
            for p in range(width):
                values.append(emit.load(x, emit.index(from_x, (x_step, p + taps - 1)), members, lanes))
                for block in range(blocks):
                    of_gradient = emit.load(gradient, emit.index(from_g, (lanes, block), (g_step, p)), lanes, lanes)
                    for j in range(taps):
                        sums[block, j] = emit.add_product(sums[block, j], of_gradient, values[p + j])
            for place in places:
                builder.store(sums[place], totals[place])
        for block, j in places:
            place = emit.index(into_at, (into_block, block), (lanes, j))
            before = emit.load(into, place, lanes, lanes)
            emit.store(builder.fadd(before, builder.load(totals[block, j])), into, place)
        return context.get_dummy_value()

    return signature, generate


def group_size(channels: int, members: int, itemsize: int) -> int:
    """Return how many channels share a vector, for M members' numbers of `itemsize` bytes; it divides the channels."""
    fitting = [
        group for group in range(1, channels + 1) if channels % group == 0 and group * members * itemsize <= REGISTER
    ]
    return max(fitting, default=1)


@cache
def convolution(width: int, columns: int, members: int, group: int) -> Callable[..., None]:
    """Compile the convolution without padding whose results are `width` pixels wide.

    Its arguments are x, the weights, the bias [O * M], and the result, which it fills.
    """
    lanes = members * group

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def convolve(x: Any, weights: Any, bias: Any, result: Any) -> None:
        images, x_height, x_width, x_size = x.shape
        blocks, rows, channels = weights.shape[:3]
        height, size = result.shape[1], result.shape[3]
        arrays = result.reshape(-1), bias, x.reshape(-1), weights.reshape(-1)
        w_channel = columns * lanes
        w_row = channels * w_channel
        steps = size, x_size, x_width * x_size, members, w_row, w_channel
        for n in range(images):
            for block in range(blocks):
                for h in range(height):
                    at, x_at = (n * height + h) * width * size + block * lanes, (n * x_height + h) * x_width * x_size
                    places = (at, block * lanes, x_at, block * rows * w_row)
                    _row(arrays, places, steps, (rows, channels), 0, width, columns, members, lanes)

    return convolve  # type: ignore[no-any-return]


@cache
def input_gradient(width: int, columns: int, members: int, group: int) -> Callable[..., None]:
    """Compile the gradient of the convolution at its input x, where its results are `width` pixels wide.

    Its arguments are the gradient at the results, the weights, zeros [G * M], and the result, which it fills.
    """
    lanes = members * group

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def spread(gradient: Any, weights: Any, zeros: Any, result: Any) -> None:
        images, height, result_width, size = result.shape
        blocks, rows, channels = weights.shape[:3]
        g_height, g_size = gradient.shape[1], gradient.shape[3]
        arrays = result.reshape(-1), zeros, gradient.reshape(-1), weights.reshape(-1)
        w_channel = columns * lanes
        w_row = channels * w_channel
        steps = size, g_size, -width * g_size, members, w_row, w_channel
        for n in range(images):
            for block in range(blocks):
                for h in range(height):
                    # The rows of weights through which a row of the gradient reaches this one.
                    first, end = max(0, h - g_height + 1), min(rows, h + 1)
                    at = (n * height + h) * result_width * size + block * lanes
                    places = (at, 0, (n * g_height + h - first) * width * g_size, (block * rows + first) * w_row)
                    _row(arrays, places, steps, (end - first, channels), 1, width, columns, members, lanes)

    return spread  # type: ignore[no-any-return]


@cache
def weight_gradient(width: int, columns: int, members: int, group: int, at_once: int) -> Callable[..., None]:
    """Compile the gradient of the convolution at its weights, `at_once` vectors at a time.

    Its arguments are the gradient at the results, x, and the result, to which it adds.
    """
    lanes = members * group

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def add_gradient(gradient: Any, x: Any, result: Any) -> None:
        images, x_height, x_width, x_size = x.shape
        blocks, rows, channels = result.shape[:3]
        g_height, g_size = gradient.shape[1], gradient.shape[3]
        arrays = result.reshape(-1), gradient.reshape(-1), x.reshape(-1)
        w_size = columns * lanes
        steps = rows * channels * w_size, g_size, width * g_size, x_size, x_width * x_size
        for n in range(images):
            for block in range(0, blocks, at_once):
                for row in range(rows):
                    for channel in range(channels):
                        at = ((block * rows + row) * channels + channel) * w_size
                        g_at = n * g_height * width * g_size + block * lanes
                        x_at = (n * x_height + row) * x_width * x_size + channel * members
                        _weights(arrays, (at, g_at, x_at), steps, g_height, width, columns, members, lanes, at_once)

    return add_gradient  # type: ignore[no-any-return]
