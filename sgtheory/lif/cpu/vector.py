"""Vector instructions for the compiled layers: products of matrices that overlap, and sums of rows.

Compilers do not keep a tile of a matrix product in registers, and a call of the BLAS library for every step wants
its operands copied into a form without overlap. So these few loops are written in LLVM's vector types, which it turns
into the instructions of any processor. Sums run in the order of the columns of the left matrix.
"""

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_WIDE = binding.get_host_cpu_features().get("avx512f", False)
VECTOR_BYTES = 64 if _WIDE else 32
_WIDTHS = (4, 2, 1)  # vectors of a tile
_MOST_ROWS = (6, 8, 12) if _WIDE else (3, 6, 6)  # their sums, and what they are made of, fit into the registers
_UNROLLED = 4  # columns of the left matrix: spreads the cost of addresses
_INDEX = ir.IntType(64)


def lanes(dtype) -> int:
    """Numbers in a vector. Arrays that receive sums of vectors have room for one vector more than they need."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def _data(context, builder, array_type, value):
    return context.make_array(array_type)(context, builder, value).data


def _vector_type(context, array_type):
    element = context.get_data_type(array_type.dtype)
    return ir.VectorType(element, VECTOR_BYTES // (array_type.dtype.bitwidth // 8))


def _at(builder, pointer, index, vector_type=None):
    pointer = builder.gep(pointer, [index])
    return pointer if vector_type is None else builder.bitcast(pointer, vector_type.as_pointer())


def _load(builder, pointer, element):
    loaded = builder.load(pointer)
    loaded.align = element
    return loaded


def _spread(builder, value, vector):
    """A vector with ``value`` everywhere."""
    nothing = ir.Constant(vector, ir.Undefined)
    value = builder.insert_element(nothing, value, ir.IntType(32)(0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(value, nothing, everywhere)


@intrinsic
def _add_tile(typingctx, out, out_at, out_step, left, left_at, left_step, rows, depth, right, right_at, width):
    """out[out_at + r out_step + c] += sum_k left[left_at + r left_step + k] right.flat[right_at + k columns + c]

    for ``rows`` rows and the columns of ``width`` vectors; depth > 0.
    """
    index = types.int64
    signature = types.void(out, index, index, left, index, index, index, index, right, index, index)

    def codegen(context, builder, signature, args):
        out_type, left_type, right_type = (signature.args[i] for i in (0, 3, 8))
        _, out_at, out_step, _, left_at, left_step, rows, depth, _, right_at, width = args
        vector = _vector_type(context, left_type)
        size = left_type.dtype.bitwidth // 8
        out_first = _at(builder, _data(context, builder, out_type, args[0]), out_at)
        left_first = _at(builder, _data(context, builder, left_type, args[3]), left_at)
        right_first = _at(builder, _data(context, builder, right_type, args[8]), right_at)
        columns = cgutils.unpack_tuple(builder, context.make_array(right_type)(context, builder, args[8]).shape, 2)[1]
        end = builder.append_basic_block("end")
        case = builder.add(builder.mul(width, _INDEX(64)), rows)
        switch = builder.switch(case, end)

        def tile(height, vectors):
            starts = [_at(builder, left_first, builder.mul(left_step, _INDEX(r))) for r in range(height)]
            sums = [[ir.Constant(vector, None)] * vectors for _ in range(height)]
            whole = builder.and_(depth, _INDEX(-_UNROLLED))
            sums = products(starts, sums, _INDEX(0), whole, _UNROLLED)
            sums = products(starts, sums, whole, depth, 1)
            for r in range(height):  # one row after the other, because rows may overlap
                first = _at(builder, out_first, builder.mul(out_step, _INDEX(r)))
                for v in range(vectors):
                    place = _at(builder, first, _INDEX(v * vector.count), vector)
                    builder.store(builder.fadd(_load(builder, place, size), sums[r][v]), place, align=size)
            builder.branch(end)

        def products(starts, sums, first, last, unrolled):
            """``sums`` and the products of columns ``first`` to ``last`` of the left matrix."""
            before = builder.block
            loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
            builder.position_at_end(loop)
            k = builder.phi(_INDEX)
            k.add_incoming(first, before)
            entering = [[builder.phi(vector) for _ in row] for row in sums]
            current = [list(row) for row in entering]
            for column in (builder.add(k, _INDEX(i)) for i in range(unrolled)):
                row = _at(builder, right_first, builder.mul(column, columns))
                weights = [
                    _load(builder, _at(builder, row, _INDEX(v * vector.count), vector), size)
                    for v in range(len(sums[0]))
                ]
                for r, start in enumerate(starts):
                    value = _spread(builder, _load(builder, _at(builder, start, column), size), vector)
                    for v, weight in enumerate(weights):
                        product = builder.fmul(value, weight, flags=("contract",))
                        current[r][v] = builder.fadd(current[r][v], product, flags=("contract",))
            following = builder.add(k, _INDEX(unrolled))
            k.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, last), loop, done)
            builder.position_at_end(done)
            leaving = [[builder.phi(vector) for _ in row] for row in sums]
            for r, row in enumerate(sums):
                for v, value in enumerate(row):
                    entering[r][v].add_incoming(value, before)
                    entering[r][v].add_incoming(current[r][v], loop)
                    leaving[r][v].add_incoming(value, before)
                    leaving[r][v].add_incoming(current[r][v], loop)
            return leaving

        for vectors, most in zip(_WIDTHS, _MOST_ROWS, strict=True):
            for height in range(1, most + 1):
                block = builder.append_basic_block(f"tile_{height}_{vectors}")
                switch.add_case(_INDEX(64 * vectors + height), block)
                builder.position_at_end(block)
                tile(height, vectors)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, error_model="numpy", nogil=True)
def add_product(out, out_at, out_step, left, left_at, left_step, rows, right):
    """out[out_at + r out_step + c] += sum_k left[left_at + r left_step + k] right[k, c] for ``rows`` rows r.

    ``out`` and ``left`` are vectors, whose rows may overlap. ``right`` is a matrix; its number of columns is a multiple
    of :func:`lanes`, and ``out`` has room for all of them.
    """
    depth, columns = right.shape
    lane = VECTOR_BYTES // right.itemsize
    first = 0
    while depth and first < columns:
        width, most = _WIDTHS[2], _MOST_ROWS[2]
        for i in range(2):
            if columns - first >= _WIDTHS[i] * lane:
                width, most = _WIDTHS[i], _MOST_ROWS[i]
                break
        tiles = (rows + most - 1) // most
        r = 0
        for t in range(tiles):
            height = (rows - r) // (tiles - t)  # nearly the same for all: small tiles are slow
            _add_tile(
                out,
                out_at + r * out_step + first,
                out_step,
                left,
                left_at + r * left_step,
                left_step,
                height,
                depth,
                right,
                first,
                width,
            )
            r += height
        first += width * lane


@intrinsic
def add_row(typingctx, out, out_at, row, row_at, size):
    """out[out_at + i] += row[row_at + i] for i < size; arrays of any shape count as vectors and must not overlap."""
    index = types.int64
    signature = types.void(out, index, row, index, index)

    def codegen(context, builder, signature, args):
        out_type, _, row_type, _, _ = signature.args
        vector = _vector_type(context, out_type)
        size = out_type.dtype.bitwidth // 8
        out_first = _at(builder, _data(context, builder, out_type, args[0]), args[1])
        row_first = _at(builder, _data(context, builder, row_type, args[2]), args[3])

        def add(i, kind):
            place = _at(builder, out_first, i, kind)
            total = builder.fadd(_load(builder, place, size), _load(builder, _at(builder, row_first, i, kind), size))
            builder.store(total, place, align=size)

        whole = builder.and_(args[4], _INDEX(-vector.count))
        with cgutils.for_range_slice(builder, _INDEX(0), whole, _INDEX(vector.count), inc=True) as (i, _):
            add(i, vector)
        with cgutils.for_range_slice(builder, whole, args[4], _INDEX(1), inc=True) as (i, _):
            add(i, None)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _nonzero(typingctx, flags, first):
    """Which of the 64 bytes from ``first`` on are not 0, as bits of an int64."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(ir.IntType(8), 64)
        pointer = _at(builder, _data(context, builder, signature.args[0], args[0]), args[1], vector)
        return builder.bitcast(
            builder.icmp_unsigned("!=", _load(builder, pointer, 1), ir.Constant(vector, None)), _INDEX
        )

    return types.uint64(flags, types.int64), codegen


@intrinsic
def _lowest(typingctx, word):
    """The number of the lowest bit that is set."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), codegen


@njit(cache=True, error_model="numpy", nogil=True)
def find_events(flags, at, size, found, count):
    """Append the places of the bytes that are not 0 to ``found``, ascending; return the new number of entries.

    flags: uint8 vector of at least 64, of which those from ``at`` on are looked at, ``size`` of them. found: int32.
    """
    for first in range(0, size, 64):
        beyond = max(0, at + first + 64 - flags.size)
        word = _nonzero(flags, at + first - beyond) >> np.uint64(beyond)
        if first + 64 > size:
            word &= (np.uint64(1) << np.uint64(size - first)) - np.uint64(1)
        while word:
            found[count] = first + _lowest(word)
            count += 1
            word &= word - np.uint64(1)
    return count
