"""Runs the PTX of a Triton kernel on the CPU: all threads of a program in step, every access to memory watched.

It knows as much of PTX as the kernels of sgtheory.lif need, and refuses what a GPU would not forgive: an access beyond
an array, a branch that threads of a program take differently (they would miss a barrier), a word of shared memory that
passes between warps without a barrier, a kernel that reads an array it writes.
"""

import re

import numpy as np

WARP = 32
ARRAY = 40  # bits of an address within an array; the bits above say which one
TYPES = {
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    "f32": np.dtype("f4"),
    "pred": np.dtype("?"),
}
REGISTERS = {"p": "pred", "rs": "u16", "r": "u32", "f": "u32", "rd": "u64"}
BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum}
BINARY |= {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "rem": np.fmod}
UNARY = {"neg": np.negative, "abs": np.abs, "not": np.invert, "ex2": np.exp2, "popc": np.bitwise_count}
COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal}
COMPARE |= {"gt": np.greater, "ge": np.greater_equal}
UPPER_HALF = re.compile(r"\{ \.reg \.b32 tmp; mov\.b64 \{tmp, (%r\d+)\}, (%rd\d+); \}")
INSTRUCTION = re.compile(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.]*)\s*(.*);")


class Violation(Exception):
    """What a GPU would not forgive."""


class SharedMemory:
    """Remembers which warps have read and written each byte since the last barrier."""

    def __init__(self, size, threads):
        self.bytes = np.zeros(-(-size // 16) * 16, np.uint8)
        self.warp = np.left_shift(np.uint64(1), np.arange(threads, dtype=np.uint64) // np.uint64(WARP))
        self.barrier()

    def barrier(self):
        self.readers, self.writers = np.zeros((2, len(self.bytes)), np.uint64)

    def locate(self, address, dtype, active):
        at = address[active].astype(np.int64)
        if len(at) and (at.min() < 0 or at.max() + dtype.itemsize > len(self.bytes) or np.any(at % dtype.itemsize)):
            raise Violation("beyond shared memory")
        return at // dtype.itemsize

    def watch(self, at, dtype, active, others, mine):
        """Bytes that ``others`` saw and that no barrier separates from this access are a race."""
        warp = self.warp[active]
        others, mine = (seen.reshape(-1, dtype.itemsize) for seen in (others, mine))
        if np.any(others[at] & ~warp[:, None]):
            raise Violation("a race between warps in shared memory")
        for byte in range(dtype.itemsize):
            np.bitwise_or.at(mine[:, byte], at, warp)

    def load(self, address, dtype, active):
        at = self.locate(address, dtype, active)
        self.watch(at, dtype, active, self.writers, self.readers)
        return self.bytes.view(dtype)[at]

    def store(self, address, values, active):
        at = self.locate(address, values.dtype, active)
        self.watch(at, values.dtype, active, self.readers | self.writers, self.writers)
        self.bytes.view(values.dtype)[at] = values[active]


class GlobalMemory:
    """The arrays that are handed to a kernel, each at an address of its own."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.loaded, self.stored = set(), set()

    def locate(self, address, dtype, active, seen):
        at = address[active]
        if not len(at):
            return np.zeros(0, dtype), at
        which, at = at >> np.uint64(ARRAY), at & np.uint64(2**ARRAY - 1)
        if np.any(which != which[0]) or not 1 <= which[0] <= len(self.arrays):
            raise Violation("an address that belongs to no array")
        seen.add(int(which[0]))
        if self.loaded & self.stored:
            raise Violation("a kernel that reads what it writes")
        array = self.arrays[int(which[0]) - 1]
        if at.max() + dtype.itemsize > array.nbytes or np.any(at % dtype.itemsize):
            raise Violation("beyond an array")
        return array.reshape(-1).view(dtype), at // dtype.itemsize

    def load(self, address, dtype, active):
        array, at = self.locate(address, dtype, active, self.loaded)
        return array[at]

    def store(self, address, values, active):
        array, at = self.locate(address, values.dtype, active, self.stored)
        array[at] = values[active]


def launch(ptx, threads, shared_bytes, grid, arguments, first=0, whole=None):
    """Run every program of the grid. ``arguments`` are numpy arrays (contiguous, changed in place) and numbers.

    With ``first``, the programs are those from ``first`` on of a longer grid, the arrays their parts of longer ones,
    except that argument number ``whole`` is all of its array.
    """
    arrays, numbers = [], []
    for i, argument in enumerate(arguments):
        if isinstance(argument, np.ndarray):
            arrays.append(argument)
            before = 0 if i == whole else first * argument.nbytes // grid[0]
            argument = (len(arrays) << ARRAY) - before
        numbers.append(argument)
    code, labels = parse(ptx)
    for y in range(grid[1]):
        for x in range(first, first + grid[0]):
            place = {"%ctaid.x": x, "%ctaid.y": y, "%nctaid.x": grid[0], "%nctaid.y": grid[1], "global_smem": 0}
            Program(code, labels, threads, shared_bytes, place, numbers, GlobalMemory(arrays)).run()


def parse(ptx):
    """Instructions as (negated, predicate, name, operands), and the index that each label stands for."""
    body = ptx[re.search(r"^\{", ptx, re.MULTILINE).end() : re.search(r"^\}", ptx, re.MULTILINE).start()]
    code, labels = [], {}
    for line in (line.split("//")[0].strip() for line in body.splitlines()):
        if line.endswith(":"):
            labels[line[:-1]] = len(code)
        elif line and not line.startswith("."):
            line = UPPER_HALF.sub(r"mov.b64 {_, \1}, \2;", line)
            negated, predicate, name, operands = INSTRUCTION.fullmatch(line).groups()
            code.append((bool(negated), predicate, name.split("."), re.findall(r"\{.*?\}|\[.*?\]|[^\s,]+", operands)))
    return code, labels


def names(vector):
    return vector.strip("{} ").replace(" ", "").split(",")


class Program:
    """One program of the grid: its registers (an array over threads each) and its shared memory."""

    def __init__(self, code, labels, threads, shared_bytes, place, parameters, memory):
        self.code, self.labels, self.threads, self.parameters, self.memory = code, labels, threads, parameters, memory
        self.shared = SharedMemory(shared_bytes, threads)
        self.registers = {}
        self.special = {name: np.uint32(value) for name, value in place.items()}
        self.special["%tid.x"] = np.arange(threads, dtype=np.uint32)

    def run(self):
        at = 0
        with np.errstate(all="ignore"):
            while self.code[at][2][0] != "ret":
                negated, predicate, name, operands = self.code[at]
                active = np.ones(self.threads, bool)
                if predicate:
                    active = self.read(predicate, "pred") ^ negated
                at += 1
                if name[0] != "bra":
                    getattr(self, f"do_{name[0]}", self.calculate)(name, operands, active)
                elif np.all(active):
                    at = self.labels[operands[0]]
                elif np.any(active):
                    raise Violation("a branch that not all threads take")

    def read(self, operand, kind):
        """The value of an operand for every thread; registers have bits, ``kind`` says how to see them."""
        dtype = TYPES[kind]
        if operand in self.special:
            value = self.special[operand]
        elif operand.startswith("%"):
            value = self.register(operand)
            return value if value.dtype == dtype else value.astype(f"u{dtype.itemsize}").view(dtype)
        elif operand.startswith("0f"):
            value = np.array(int(operand[2:], 16), np.uint32).view(np.float32)
        else:
            value = np.array(int(operand, 0) & (2 ** (8 * dtype.itemsize) - 1), f"u{dtype.itemsize}")
            value = value != 0 if kind == "pred" else value.view(dtype)
        return np.broadcast_to(value, self.threads)

    def register(self, name):
        """What it holds; garbage before it is written."""
        if name not in self.registers:
            dtype = TYPES[REGISTERS[re.match(r"%([a-z]+)", name)[1]]]
            self.registers[name] = np.full(self.threads, np.array(0x7FEDCBA987654321).astype(dtype))
        return self.registers[name]

    def write(self, name, value, active):
        if name == "_":
            return
        old = self.register(name)
        if value.dtype != old.dtype:  # a wider register takes the sign along
            value = value.view(f"{'i' if value.dtype.kind == 'i' else 'u'}{value.dtype.itemsize}").astype(old.dtype)
        self.registers[name] = np.where(active, value, old)

    def calculate(self, name, operands, active):
        """Operations on numbers, each rounded once; packed ones on both halves of the registers."""
        kind = name[-1]
        if kind == "f32x2":
            halves = [np.ascontiguousarray(self.read(o, "u64")).view(np.float32).reshape(-1, 2) for o in operands[1:]]
            value = np.ascontiguousarray(self.arithmetic(name[0], *halves)).view(np.uint64)[:, 0]
        else:
            value = self.arithmetic(name[0], *(self.read(operand, kind) for operand in operands[1:]))
        self.write(operands[0], value, active)

    def arithmetic(self, operation, a, b=None, c=None):
        if operation == "fma":
            return (a.astype(np.float64) * b + c).astype(np.float32)
        if operation in UNARY:
            return UNARY[operation](a)
        if operation == "div" and a.dtype.kind in "iu":
            return a // b  # of what is not negative
        return BINARY[operation](a, b)

    def do_mul(self, name, operands, active):
        self.do_mad(name, [*operands, "0"], active)

    def do_mad(self, name, operands, active):
        """Low half, high half or all of an integer product, plus a third operand; float products."""
        if name[1] not in ("lo", "hi", "wide"):
            return self.calculate(name, operands[:3], active)
        kind, (a, b) = name[2], (self.read(operand, name[2]) for operand in operands[1:3])
        if name[1] == "lo":
            value = a * b + self.read(operands[3], kind)
        else:
            wide = kind[0] + "64"
            value = a.astype(TYPES[wide]) * b.astype(TYPES[wide]) + self.read(operands[3], wide)
            if name[1] == "hi":
                value = (value >> TYPES[wide].type(32)).astype(TYPES[kind])
        return self.write(operands[0], value, active)

    def do_shl(self, name, operands, active):
        a, n = self.read(operands[1], name[1]), self.read(operands[2], "u32")
        self.write(operands[0], np.where(n < 8 * a.itemsize, a << n.astype(a.dtype), a.dtype.type(0)), active)

    def do_shr(self, name, operands, active):
        a, n = self.read(operands[1], name[1]), self.read(operands[2], "u32")
        if name[1][0] == "s":
            value = a >> np.minimum(n, 8 * a.itemsize - 1).astype(a.dtype)
        else:
            value = np.where(n < 8 * a.itemsize, a >> n.astype(a.dtype), a.dtype.type(0))
        self.write(operands[0], value, active)

    def do_bfe(self, name, operands, active):
        a, first, size = self.read(operands[1], name[1]), int(operands[2]), int(operands[3])
        value = (a << a.dtype.type(32 - first - size)) >> a.dtype.type(32 - size)
        self.write(operands[0], value, active)

    def do_setp(self, name, operands, active):
        a, b = (self.read(operand, name[2]) for operand in operands[1:])
        self.write(operands[0], COMPARE[name[1]](a, b), active)

    def do_selp(self, name, operands, active):
        a, b = (self.read(operand, name[1]) for operand in operands[1:3])
        self.write(operands[0], np.where(self.read(operands[3], "pred"), a, b), active)

    def do_cvt(self, name, operands, active):
        self.write(operands[0], self.read(operands[1], name[-1]).astype(TYPES[name[-2]]), active)

    def do_mov(self, name, operands, active):
        """A copy, or a register packed from or unpacked into parts."""
        to, source = operands
        if "{" not in to + source:
            return self.write(to, self.read(source, name[1]), active)
        parts, bits = names(to if "{" in to else source), TYPES[name[1]].itemsize * 8
        part = bits // len(parts)
        if "{" in to:
            value = self.read(source, f"u{bits}")
            for i, register in enumerate(parts):
                self.write(register, (value >> value.dtype.type(i * part)).astype(f"u{part // 8}"), active)
            return None
        value = np.zeros(self.threads, f"u{bits // 8}")
        for i, register in enumerate(parts):
            value |= self.read(register, f"u{part}").astype(value.dtype) << value.dtype.type(i * part)
        return self.write(to, value, active)

    def memory_operand(self, name, operand):
        """Memory, address of every thread, type of the elements."""
        register, _, offset = operand.strip("[] ").replace(" ", "").partition("+")
        memory, kind = (self.memory, "u64") if name[1] == "global" else (self.shared, "u32")
        return memory, self.read(register, kind) + TYPES[kind].type(int(offset or 0)), TYPES[name[-1]]

    def do_ld(self, name, operands, active):
        if name[1] == "param":
            number = self.parameters[int(re.search(r"param_(\d+)", operands[1])[1])]
            dtype = np.dtype("f4") if isinstance(number, float) else TYPES[name[2]]
            return self.write(operands[0], np.full(self.threads, np.array(number).astype(dtype)), active)
        memory, address, dtype = self.memory_operand(name, operands[1])
        for i, register in enumerate(names(operands[0])):
            value = np.zeros(self.threads, dtype)
            value[active] = memory.load(address + address.dtype.type(i * dtype.itemsize), dtype, active)
            self.write(register, value, active)
        return None

    def do_st(self, name, operands, active):
        memory, address, dtype = self.memory_operand(name, operands[0])
        for i, register in enumerate(names(operands[1])):
            memory.store(address + address.dtype.type(i * dtype.itemsize), self.read(register, name[-1]), active)

    def matrix_rows(self, operand, count):
        """Addresses of 8 x 8 matrices of 16 bits: lane l has columns 2 (l % 4) and on of row l // 4, and lane 8 m + r
        gives the address of row r of matrix m."""
        address, lane = self.read(operand.strip("[] "), "u32").reshape(-1, WARP), np.arange(WARP)
        return [(address[:, 8 * m + lane // 4] + 4 * (lane % 4)).astype(np.uint32).reshape(-1) for m in range(count)]

    def do_stmatrix(self, name, operands, active):
        registers = names(operands[1])
        for register, address in zip(registers, self.matrix_rows(operands[0], len(registers)), strict=True):
            self.shared.store(address, self.read(register, "u32"), active)

    def do_ldmatrix(self, name, operands, active):
        registers = names(operands[0])
        for register, address in zip(registers, self.matrix_rows(operands[1], len(registers)), strict=True):
            self.write(register, self.shared.load(address, TYPES["u32"], active), active)

    def do_shfl(self, name, operands, active):
        value, n = self.read(operands[1], "u32"), self.read(operands[2], "u32").astype(np.int64)
        thread = np.arange(self.threads)
        lane = thread % WARP
        source = {"bfly": lane ^ n, "idx": n % WARP, "up": lane - n, "down": lane + n}[name[2]]
        source = np.where((source >= 0) & (source < WARP), source, lane)
        self.write(operands[0], value[thread - lane + source], active)

    def do_redux(self, name, operands, active):
        value = BINARY[name[2]].reduce(self.read(operands[1], name[3]).reshape(-1, WARP), axis=1)
        self.write(operands[0], value.repeat(WARP), active)

    def do_bar(self, name, operands, active):
        if name[1] == "sync":
            self.shared.barrier()
