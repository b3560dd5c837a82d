"""The CUDA backend, as far as it can be tested without a GPU: its numbers in Triton's interpreter, its machine code.

Compilation goes through the launches of the backend itself, with a stand-in for the driver that names an architecture,
so that every kernel is specialised exactly as on such a device.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sgtheory.lif import Noise, _cuda
from sgtheory.neurons import ErfEscape, LIFParameters, SigmoidEscape, Step, StraightThrough, SuperSpike

triton = pytest.importorskip("triton", reason="triton is not installed")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes that a program can have
REGISTERS = 65536  # of a multiprocessor
SHD = {"16x68": (16, 68), "32x21": (32, 21), "64x5": (64, 5)}  # recurrent layers, kernel 5


def test_kernels_in_the_interpreter():
    """Runs cuda_interpreted.py: whether Triton interprets or compiles is decided when it is imported."""
    file = Path(__file__).with_name("cuda_interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_says_why_it_is_not_available(monkeypatch):
    available, reason = _cuda.cuda_available()
    assert available != bool(reason)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _cuda.cuda_available() == (True, "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "triton is not installed" in _cuda.cuda_available()[1]


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
def compiled(monkeypatch):
    """Run a call with every launch replaced by its compilation; the kernels in the order of the launches."""
    if triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is set")
    run = JITFunction.run

    def kernels(architecture, call, **options):
        found = []

        def compile_only(kernel, *arguments, grid, **keywords):
            found.append(run(kernel, *arguments, grid=grid, **{**keywords, **options, "warmup": True}))

        monkeypatch.setattr(triton.runtime.driver, "_active", Driver(architecture))
        monkeypatch.setattr(JITFunction, "run", compile_only)
        call()
        return found

    return kernels


def train(shape, kernel=0, escape=SigmoidEscape(), surrogate=SuperSpike(), parameters=LIFParameters(), noise=Noise(0)):  # noqa: B008
    """A call that launches the forward and the backward pass of a layer."""
    inputs, recurrent = torch.zeros(2, 3, *shape, requires_grad=True), None
    if kernel:
        recurrent = torch.zeros(shape[0], shape[0], *[kernel] * (len(shape) - 1), requires_grad=True)

    def call():
        spikes, _ = _cuda.lif_cuda(inputs, parameters, surrogate, escape, noise, recurrent)
        spikes.sum().backward()

    return call


def assert_fits(kernel, architecture, tmp_path, spilled):
    """Shared memory and registers suffice, and at most ``spilled`` bytes of registers go to the stack of a thread."""
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(cubin)]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    shared, warps = kernel.metadata.shared, kernel.metadata.num_warps
    print(f"sm_{architecture} {kernel.name}: {warps} warps, {registers} registers, {stack} B stack, {shared} B shared")
    assert shared <= SHARED_MEMORY[architecture]
    assert registers * 32 * warps <= REGISTERS
    assert stack <= spilled


def assert_rounds_like_the_reference(kernel):
    """Every float operation of a forward kernel is one that IEEE 754 determines; nothing is fused or flushed to 0."""
    exact = r"(add|sub|mul|div)\.rn\.f32(x2)?|cvt\.rn\.f32\.[us]32|(setp\.[a-z]+|selp|mov|abs|neg)\.f32"
    operations = set(re.findall(r"^\s*(?:@!?%p\d+ )?([a-z]\S*f32\S*)", kernel.asm["ptx"], re.MULTILINE))
    assert operations
    assert [name for name in operations if not re.fullmatch(exact, name)] == []


def assert_reads_as_written(kernel):
    """No tensor cores (reduced precision) and no asynchronous copies (loads that overtake stores)."""
    assert not re.search(r"\b(mma|wgmma|tcgen05|cp\.async)", kernel.asm["ptx"])


@pytest.mark.parametrize("architecture", SHARED_MEMORY)
def test_compiles_for(architecture, compiled, tmp_path):
    """The layers of the SHD net, one without recurrence and the readout."""
    for shape, kernel in (*((shape, 5) for shape in SHD.values()), ((1088,), 0)):
        forward, backward = compiled(architecture, train(shape, kernel))
        assert_fits(forward, architecture, tmp_path, spilled=96)
        assert_fits(backward, architecture, tmp_path, spilled=0)
        assert_rounds_like_the_reference(forward)
        assert_reads_as_written(forward)
        assert_reads_as_written(backward)
    (readout,) = compiled(architecture, lambda: _cuda.readout_cuda(torch.zeros(2, 3, 20), LIFParameters(), 0.0))
    assert_fits(readout, architecture, tmp_path, spilled=0)
    assert_rounds_like_the_reference(readout)


def test_given_thresholds_and_derivatives_compile(compiled, tmp_path):
    """Also the options that the layers of the SHD net do not use."""
    parameters = LIFParameters(reset="next", reset_gradient="attached", delay=1)
    call = train((200,), 1, ErfEscape(), StraightThrough(), parameters)
    for kernel in compiled(80, call):
        assert_fits(kernel, 80, tmp_path, spilled=0)
    assert_rounds_like_the_reference(compiled(80, call)[1])


def test_one_compilation_serves_every_batch_and_seed(compiled):
    (first, _), (second, _) = (
        compiled(80, train((1088,), noise=Noise(seed, stream=2**31 * (seed > 1), draw=seed))) for seed in (1, 2**32 - 1)
    )
    assert first is second


def test_fused_multiply_adds_would_be_seen(compiled):
    forward, _ = compiled(80, train((1088,)), enable_fp_fusion=True)
    with pytest.raises(AssertionError):
        assert_rounds_like_the_reference(forward)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SHARED_MEMORY)
@pytest.mark.parametrize(("shape", "kernel"), [((200,), 1), ((512,), 1), ((1024,), 1), ((64, 128), 5), ((16, 512), 5)])
def test_the_largest_layers_compile(architecture, shape, kernel, compiled, tmp_path):
    for escape in (Step(), SigmoidEscape()):
        for found in compiled(architecture, train(shape, kernel, escape)):
            assert_fits(found, architecture, tmp_path, spilled=640)
