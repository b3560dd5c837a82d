"""The CUDA backend without a GPU: its kernels in Triton's interpreter, and their PTX executed on the CPU.

The backend makes its launches as on a device, with a stand-in for the driver that names an architecture. Each launch
compiles the kernel for it, down to machine code, and cuda_ptx.py then runs the PTX of that compilation.
"""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import cuda_ptx  # noqa: E402
from cuda_cases import (  # noqa: E402
    CONVOLUTIONS,
    ESCAPES,
    NOISE,
    OPTIONS,
    SURROGATES,
    assert_like_reference,
    assert_weight_gradient,
    differing,
    fast,
    layer,
    run,
)
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from sgtheory.lif import Noise, _reference, lif  # noqa: E402
from sgtheory.lif.cuda import backend as cuda  # noqa: E402
from sgtheory.lif.cuda import operators  # noqa: E402
from sgtheory.neurons import LIFParameters, Step  # noqa: E402

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes that a program can have
REGISTERS = 65536  # of a multiprocessor
OLD = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 5)
SPILLED = 400 if OLD else 160  # bytes of a thread that a layer of the SHD net may spill
architectures = pytest.mark.parametrize("architecture", SHARED_MEMORY)


def test_kernels_in_the_interpreter(interpreter):
    """Runs cuda_interpreted.py: whether Triton interprets or compiles is decided when it is imported."""
    file = Path(__file__).with_name("cuda_interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_says_why_it_is_not_available(monkeypatch):
    available, reason = cuda.cuda_available()
    assert available != bool(reason)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cuda.cuda_available() == (True, "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "triton is not installed" in cuda.cuda_available()[1]


class Driver:
    """Names the device that Triton compiles for."""

    def __init__(self, architecture):
        self.architecture = architecture

    def get_current_target(self):
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self):
        return self.architecture

    def get_current_stream(self, device):
        return 0


@pytest.fixture
def device(monkeypatch):
    """Call it with an architecture to have kernels compiled for that and executed here; the list of those launched."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET is set")
    compiled_run = JITFunction.run

    def pretend(architecture, execute=True, edit=lambda ptx: ptx, first=0, **options):
        launched = []

        def launch(function, *arguments, grid, **keywords):
            kernel = compiled_run(function, *arguments, grid=grid, **{**keywords, **options, "warmup": True})
            launched.append(kernel)
            if execute:
                names = {name: value for name, value in keywords.items() if name in function.arg_names}
                bound = inspect.signature(function.fn).bind(*arguments, **names).arguments
                if "batch" in bound:
                    bound["batch"] += first * (bound["batch"] // grid[0])
                taken = [name for name, kind in kernel.src.signature.items() if kind != "constexpr"]
                whole = taken.index("weight") if "weight" in taken else None
                before = first * bound.get("PROGRAMS", 1) * bound.get("parts", 1)  # programs that share a sample
                values = [bound[name] for name in taken]
                values = [v.detach().numpy() if isinstance(v, torch.Tensor) else v for v in values]
                threads, shared = 32 * kernel.metadata.num_warps, kernel.metadata.shared
                cuda_ptx.launch(edit(kernel.asm["ptx"]), threads, shared, grid, values, before, whole)

        monkeypatch.setattr(triton.runtime.driver, "active" if OLD else "_active", Driver(architecture))
        monkeypatch.setattr(JITFunction, "run", launch)
        return launched

    return pretend


def assert_fits(kernel, architecture, tmp_path, spilled):
    """Shared memory and registers suffice, and at most ``spilled`` bytes of registers go to the stack of a thread.

    Returns how many programs a multiprocessor runs at once.
    """
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(program), "-res-usage", str(cubin)]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    shared, threads = kernel.metadata.shared, 32 * kernel.metadata.num_warps
    used = f"{threads} threads, {registers} registers, {stack} B stack, {shared} B shared"
    print(f"sm_{architecture} {kernel.name}: {used}")
    assert shared <= SHARED_MEMORY[architecture]
    assert registers * threads <= REGISTERS
    assert stack <= spilled
    return min(REGISTERS // (registers * threads), 2048 // threads, SHARED_MEMORY[architecture] // (shared + 1024), 32)


def assert_rounds_like_the_reference(kernel):
    """Every float operation of a forward kernel is one that IEEE 754 determines; nothing is fused or flushed to 0.

    Triton before 3.5 divides with ``.ftz``; the quotients of the logarithm are 0 or above 2^-26, far from subnormal.
    """
    exact = r"(add|sub|mul|div)\.rn\.f32(x2)?|div\.rn\.ftz\.f32|cvt\.rn\.f32\.[us](32|64)"
    exact += r"|(setp\.[a-z]+|selp|mov|abs|neg|ld\.param)\.f32"
    operations = set(re.findall(r"^\s*(?:@!?%p\d+ )?([a-z]\S*f32\S*)", kernel.asm["ptx"], re.MULTILINE))
    assert operations
    assert [name for name in operations if not re.fullmatch(exact, name)] == []


def assert_reads_as_written(kernel):
    """No tensor cores (reduced precision) and no asynchronous copies (loads that overtake stores)."""
    assert not re.search(r"\b(mma|wgmma|tcgen05|cp\.async)", kernel.asm["ptx"])


@architectures
@pytest.mark.parametrize("name", ["16x68", "32x21", "64x5", "1088"])
def test_layers_of_the_shd_net(name, architecture, device, tmp_path):
    launched = device(architecture)
    assert_like_reference(*layer(name), fast(threshold=1.5))
    blocks = 5 if name == "1088" else 1  # programs of a sample
    for kernel in launched:
        at_once = assert_fits(kernel, architecture, tmp_path, SPILLED)
        assert 132 * at_once >= 400 * blocks or kernel.name == "weight_kernel"  # a batch of 400 on an H100
        assert_reads_as_written(kernel)
    assert_rounds_like_the_reference(launched[0])


@pytest.mark.parametrize("name", ["64x5", "dense"])
def test_the_same_bits_as_on_the_cpu(name, device):
    """Weights whose sum depends on the order of spikes."""
    device(80)
    inputs, recurrent = layer(name)
    recurrent = torch.randn(recurrent.shape, generator=torch.Generator().manual_seed(3)) * 0.5
    arguments = fast(threshold=1.5), SURROGATES[0], ESCAPES[1], NOISE, recurrent
    for found, expected in zip(cuda.layer(inputs, *arguments), lif(inputs, *arguments, backend="cpu"), strict=True):
        assert torch.equal(found, expected)


EVERY_OPTION = [(name, *options) for name in ("feedforward", "dense", "convolution") for options in OPTIONS]
A_FEW_OPTIONS = [
    ("convolution", "next", "attached", 1),
    ("dense", "same", "detached", 1),
    ("few positions", "same", "attached", 0),
]
EVERY_OPTION.append(("wide", "next", "detached", 0))
CASES = A_FEW_OPTIONS + [pytest.param(*case, marks=pytest.mark.slow) for case in EVERY_OPTION]


@pytest.mark.parametrize(("name", "reset", "reset_gradient", "delay"), CASES)
def test_options(name, reset, reset_gradient, delay, device):
    device(80)
    assert_like_reference(*layer(name), fast(reset=reset, reset_gradient=reset_gradient, delay=delay))


@pytest.mark.parametrize("name", ["convolution", pytest.param("feedforward", marks=pytest.mark.slow)])
def test_neurons_that_differ(name, device):
    launched = device(80)
    inputs, recurrent = layer(name)
    assert_like_reference(inputs, recurrent, differing(inputs.shape[2], reset_gradient="attached", delay=1))
    assert_rounds_like_the_reference(launched[0])


def test_thresholds_that_adapt(device):
    launched = device(80)
    parameters = fast(reset="same", adaptation=0.4, tau_adaptation=3e-3)
    assert_like_reference(*layer("few positions"), parameters)
    assert_rounds_like_the_reference(launched[0])


@pytest.mark.parametrize("i", [pytest.param(i, marks=pytest.mark.slow if i not in (2, 4, 7) else []) for i in range(8)])
def test_escape_functions_and_surrogates(i, device):
    """Exponential escape with the sigmoid surrogate, a rectified line, and what the kernels do not know themselves."""
    launched = device(80)
    assert_like_reference(*layer("feedforward"), fast(threshold=0.8), SURROGATES[i], ESCAPES[-1 if i == 7 else i % 5])
    assert_rounds_like_the_reference(launched[-2])


@pytest.mark.parametrize("delay", [0, 1])
def test_readout(delay, device):
    launched = device(80)
    inputs = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(4))
    weights = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(5))
    results = []
    for backend in (_reference.readout, cuda.readout):
        leaf = inputs.clone().requires_grad_()
        potentials = backend(leaf, fast(delay=delay), -1e-3)
        results.append((potentials, *torch.autograd.grad((potentials * weights).sum(), leaf)))
    (expected, expected_gradient), (found, gradient) = results
    assert torch.equal(expected, found)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-6)
    assert_rounds_like_the_reference(launched[0])


@pytest.mark.parametrize(("case", "programs"), [(CONVOLUTIONS[1], 2048), (CONVOLUTIONS[2], 1)])
def test_gradients_for_weights_of_convolutions(case, programs, device, monkeypatch):
    launched = device(80)
    monkeypatch.setattr(operators, "PROGRAMS", programs)
    assert_weight_gradient(*case)
    assert_reads_as_written(launched[0])


def test_one_compilation_serves_every_batch_length_and_seed(device):
    launched = device(80, execute=False)
    for batch, steps, noise in ((2, 5, Noise(1)), (16, 64, Noise(2**32 - 1, 2**32 - 1, 7))):
        inputs = torch.zeros(batch, steps, 320, requires_grad=True)
        spikes, _ = cuda.layer(inputs, LIFParameters(), SURROGATES[0], ESCAPES[1], noise, None)
        spikes.sum().backward()
    assert launched[:2] == launched[2:]


FAR = [("feedforward", 2, 1), ("feedforward", 2, -1), ("convolution", 2, 1), ("dense", 16, 1)]


@pytest.mark.parametrize(("name", "batch", "i"), FAR)
def test_arrays_of_more_than_2_to_the_32_elements(name, batch, i, device):
    """The samples from 40,000,000 on of a batch with 126 to 1800 neurons x steps each."""
    device(80, first=40_000_000)
    noise = Noise(1, samples=torch.arange(batch) + 2**32 - batch)
    assert_like_reference(*layer(name, batch), fast(reset_gradient="attached"), SURROGATES[i], ESCAPES[i], noise)


def test_readouts_of_more_than_2_to_the_32_elements(device):
    device(80, first=40_000_000)
    inputs = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(4))
    assert torch.equal(cuda.readout(inputs, fast(), 0.5), _reference.readout(inputs, fast(), 0.5))


def test_fused_multiply_adds_would_be_seen(device):
    launched = device(80, enable_fp_fusion=True)
    with pytest.raises(AssertionError):
        assert_like_reference(*layer("feedforward"), fast())
    with pytest.raises(AssertionError):
        assert_rounds_like_the_reference(launched[0])


@pytest.mark.parametrize("barrier", [1, 4, 7, 10])
def test_a_missing_barrier_would_be_seen(barrier, device):
    def without_barrier(ptx):
        parts = re.split(r"bar\.sync[^;]*;", ptx)
        return "bar.sync 0;".join(["".join(parts[: barrier + 1]), *parts[barrier + 1 :]])

    device(80, edit=without_barrier)
    with pytest.raises(cuda_ptx.Violation, match="race"):
        run(cuda.layer, *layer("64x5"), fast())


ADDRESS = "ld.param.b64 %rd1, [k_param_0];\n mov.u32 %r1, %tid.x;\n mad.wide.u32 %rd2, %r1, 4, %rd1;\n"


@pytest.mark.parametrize(
    ("code", "violation"),
    [
        ("ld.global.b32 {%r2}, [%rd2+4];", "beyond an array"),
        ("ld.global.b32 {%r2}, [%rd2];\n st.global.b32 [%rd2], {%r2};", "reads what it writes"),
        ("setp.lt.u32 %p1, %r1, 7;\n @%p1 bra $L;\n $L:", "not all threads take"),
        ("st.shared.b32 [0], %r1;\n ld.shared.b32 %r2, [0];", "race"),
        ("ld.shared.b32 %r2, [16];", "beyond shared memory"),
    ],
)
def test_what_a_gpu_would_not_forgive_is_seen(code, violation):
    ptx = f".entry k()\n{{\n{ADDRESS}{code}\nret;\n}}"
    with pytest.raises(cuda_ptx.Violation, match=violation):
        cuda_ptx.launch(ptx, 64, 16, (1, 1), [np.zeros(64, np.float32)])


@pytest.mark.slow
@architectures
@pytest.mark.parametrize(("shape", "kernel"), [((200,), 1), ((512,), 1), ((1024,), 1), ((64, 128), 5), ((16, 512), 5)])
def test_the_largest_layers_compile(architecture, shape, kernel, device, tmp_path):
    launched = device(architecture, execute=False)
    for escape in (Step(), ESCAPES[1]):
        inputs = torch.zeros(2, 3, *shape, requires_grad=True)
        weight = torch.zeros(shape[0], shape[0], *[kernel] * (len(shape) - 1))
        spikes, _ = cuda.layer(inputs, LIFParameters(), SURROGATES[0], escape, NOISE, weight)
        spikes.sum().backward()
    for kernel in launched:
        assert_fits(kernel, architecture, tmp_path, spilled=640)
