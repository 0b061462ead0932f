"""Narrow convolutions of many networks at once, a network in each place of a vector: compiled on first use.

A convolution of a few channels leaves most of a vector register empty, whatever its loops run over. With the members of
a pack innermost in memory, one multiplication does the same for all of them, nothing is ever shuffled, and a row of
results stays in registers until it is done. Where members are few, a vector takes several channels of each.

All arrays are float32 or float64, features [N, H, W, C * M] with the M members of a channel next to each other, and
weights [C / G, rows, other channels, columns, G * M], where the G channels of a vector are those that are written to.
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
"""The bytes of a vector register."""
SPAN = 18
"""The most results of a row that are held in registers at once."""
INDEX = ir.IntType(64)


class _Emitter:
    """Writes vector code over the arguments of an intrinsic, of which the first is a tuple of arrays."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder = context, builder
        self.values = [self._value(*each) for each in zip(signature.args, arguments, strict=True)]
        self.number = self.values[0][0].type.pointee
        self.align = 8 if self.number == ir.DoubleType() else 4

    def _value(self, kind: Any, value: Any) -> Any:
        """A known integer as itself, an array as a pointer to its data, and a tuple as the list of its values."""
        if isinstance(kind, types.IntegerLiteral):
            return kind.literal_value
        if isinstance(kind, types.Array):
            return self.context.make_array(kind)(self.context, self.builder, value).data
        if isinstance(value.type, ir.Aggregate):
            return [self._value(*each) for each in zip(kind, cgutils.unpack_tuple(self.builder, value), strict=True)]
        return value

    def index(self, start: Any, *steps: tuple[Any, Any]) -> Any:
        """The start, and each of the steps so many times."""
        start, *of_steps = (one if isinstance(one, ir.Value) else INDEX(one) for one in (start, *chain(*steps)))
        for step, times in zip(of_steps[::2], of_steps[1::2], strict=True):
            start = self.builder.add(start, self.builder.mul(step, times))
        return start

    def load(self, array: Any, at: Any, members: int, lanes: int) -> Any:
        """A vector of the values from an index on, the members' values over and over where it has more lanes."""
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
        """A place for a vector that LLVM will keep in a register."""
        place = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, place)
        return place

    def plus(self, total: Any, one: Any, other: Any) -> Any:
        """The total and a product, rounded once where the machine can."""
        product = self.builder.fmul(one, other, flags=("contract",))
        return self.builder.fadd(total, product, flags=("contract",))

    def loop(self, times: Any) -> Any:
        """A loop, as a context that gives its index."""
        return cgutils.for_range(self.builder, times, intp=INDEX)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _row(
    _: Any, arrays: Any, at: Any, steps: Any, counts: Any, spread: Any, width: Any, taps: Any, members: Any, lanes: Any
) -> Any:
    """A row of results: `start`, and over rows and channels the sum of weight j times x[p + j], for each p < width.

    Where `spread` is 1 it is weight j times x[p] that is added to result p + j, of which there are `taps` - 1 more.
    """
    signature = types.void(arrays, at, steps, counts, spread, width, taps, members, lanes)

    def generated(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
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
                        sums.update({p: emit.plus(sums[p], weights[j], value) for j, p in reached})
                for total, value in zip(totals, sums.values(), strict=True):
                    builder.store(value, total)
            for p, total in zip(span, totals, strict=True):
                emit.store(builder.load(total), into, emit.index(into_at, (into_step, p)))
        return context.get_dummy_value()

    return signature, generated


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _weights(
    _: Any, arrays: Any, at: Any, steps: Any, rows: Any, width: Any, taps: Any, members: Any, lanes: Any, blocks: Any
) -> Any:
    """To weight j of so many blocks of channels is added the sum over rows and p < width of gradient p * x[p + j]."""
    signature = types.void(arrays, at, steps, rows, width, taps, members, lanes, blocks)

    def generated(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
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
                    given = emit.load(gradient, emit.index(from_g, (lanes, block), (g_step, p)), lanes, lanes)
                    sums.update({(block, j): emit.plus(sums[block, j], given, values[p + j]) for j in range(taps)})
            for place in places:
                builder.store(sums[place], totals[place])
        for block, j in places:
            place = emit.index(into_at, (into_block, block), (lanes, j))
            before = emit.load(into, place, lanes, lanes)
            emit.store(builder.fadd(before, builder.load(totals[block, j])), into, place)
        return context.get_dummy_value()

    return signature, generated


def grouped(channels: int, members: int, size: int) -> int:
    """How many of the channels, with numbers of so many bytes, share a vector."""
    fit = [group for group in range(1, channels + 1) if channels % group == 0 and group * members * size <= REGISTER]
    return max(fit, default=1)


@cache
def convolution(width: int, columns: int, members: int, group: int) -> Callable[..., None]:
    """What computes a convolution without padding whose results have that width: (x, weights, bias [O * M], result)."""
    lanes = members * group

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def convolved(x: Any, weights: Any, bias: Any, result: Any) -> None:
        images, height, across, given = x.shape
        blocks, rows, channels = weights.shape[:3]
        high, made = result.shape[1], result.shape[3]
        arrays = result.reshape(-1), bias, x.reshape(-1), weights.reshape(-1)
        w_channel = columns * lanes
        w_row = channels * w_channel
        steps = made, given, across * given, members, w_row, w_channel
        for n in range(images):
            for block in range(blocks):
                for h in range(high):
                    at, x_at = (n * high + h) * width * made + block * lanes, (n * height + h) * across * given
                    places = (at, block * lanes, x_at, block * rows * w_row)
                    _row(arrays, places, steps, (rows, channels), 0, width, columns, members, lanes)

    return convolved  # type: ignore[no-any-return]


@cache
def spread(width: int, columns: int, members: int, group: int) -> Callable[..., None]:
    """What computes the gradient at x from that at the result: (gradient, weights, zeros [G * M], result)."""
    lanes = members * group

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def spread_out(gradient: Any, weights: Any, zeros: Any, result: Any) -> None:
        images, height, across, made = result.shape
        blocks, rows, channels = weights.shape[:3]
        high, given = gradient.shape[1], gradient.shape[3]
        arrays = result.reshape(-1), zeros, gradient.reshape(-1), weights.reshape(-1)
        w_channel = columns * lanes
        w_row = channels * w_channel
        steps = made, given, -width * given, members, w_row, w_channel
        for n in range(images):
            for block in range(blocks):
                for h in range(height):
                    # The rows of weights by which a row of the gradient comes here.
                    first, end = max(0, h - high + 1), min(rows, h + 1)
                    at = (n * height + h) * across * made + block * lanes
                    places = (at, 0, (n * high + h - first) * width * given, (block * rows + first) * w_row)
                    _row(arrays, places, steps, (end - first, channels), 1, width, columns, members, lanes)

    return spread_out  # type: ignore[no-any-return]


@cache
def weighted(width: int, columns: int, members: int, group: int, at_once: int) -> Callable[..., None]:
    """What adds the gradient at the weights to the result, so many vectors at once: (gradient, x, result)."""
    lanes = members * group

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def weights_of(gradient: Any, x: Any, result: Any) -> None:
        images, height, across, given = x.shape
        blocks, rows, channels = result.shape[:3]
        high, made = gradient.shape[1], gradient.shape[3]
        arrays = result.reshape(-1), gradient.reshape(-1), x.reshape(-1)
        size = columns * lanes
        steps = rows * channels * size, made, width * made, given, across * given
        for n in range(images):
            for block in range(0, blocks, at_once):
                for row in range(rows):
                    for channel in range(channels):
                        at = ((block * rows + row) * channels + channel) * size
                        g_at = n * high * width * made + block * lanes
                        x_at = (n * height + row) * across * given + channel * members
                        _weights(arrays, (at, g_at, x_at), steps, high, width, columns, members, lanes, at_once)

    return weights_of  # type: ignore[no-any-return]
