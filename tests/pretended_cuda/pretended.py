"""A pretended CUDA device: tensors say cuda:0 and hold a CPU tensor, and operations that mix devices raise.

Copies between the two, waits for the device and operations on it are counted. Import it before torch; GUARD names
guard.so, made of guard.cpp, which gives PyTorch a device guard for a device that is not there.
"""

import ctypes
import importlib.util
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

_LIBRARIES = Path(importlib.util.find_spec("torch").origin).parent / "lib"
for _path in (*(_LIBRARIES / name for name in ("libgomp.so.1", "libc10.so", "libtorch_cpu.so")), os.environ["GUARD"]):
    if os.path.exists(_path):
        ctypes.CDLL(str(_path), mode=ctypes.RTLD_GLOBAL)

import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map  # noqa: E402

to_device, to_host = Counter(), Counter()  # copies by operation; those to the host wait for the device
launched = Counter()  # operations that compute something on the device


class Pretended(torch.Tensor):
    """A tensor that says cuda:0."""

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device("cuda:0"),
        )
        made.held = held
        return made

    def __repr__(self):
        return f"Pretended({self.held})"

    def __reduce_ex__(self, protocol):
        return self.held.__reduce_ex__(protocol)  # what is saved is read where there is no device

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        return dispatch(function, arguments, keywords or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


def dispatch(function, arguments, keywords):
    """Run an operation on what the tensors hold, with the rules for devices."""
    tensors = [t for t in tree_flatten((arguments, keywords))[0] if isinstance(t, torch.Tensor)]
    pretended = [isinstance(t, Pretended) for t in tensors]
    device, name = keywords.get("device"), str(function)
    goes = None if device is None else torch.device(device).type
    if any(pretended):
        for tensor, on_device in zip(tensors, pretended, strict=True):
            moves = any(word in name for word in ("copy_", "aten.index", "_index_put"))
            if not (on_device or tensor.ndim == 0 or moves):
                raise RuntimeError(f"{name} mixes devices: a tensor {tuple(tensor.shape)} is on the CPU")
        if "_local_scalar_dense" in name or (goes == "cpu" and "_to_copy" in name):
            to_host[name] += 1
        if "copy_" in name and not all(pretended):
            (to_device if isinstance(arguments[0], Pretended) else to_host)[name] += 1
    elif goes == "cuda" and tensors:
        to_device[name] += 1
    if (any(pretended) or goes == "cuda") and not (function.is_view or "empty" in name or goes == "cpu"):
        launched[name] += 1
    held = tree_map(lambda t: t.held if isinstance(t, Pretended) else t, (arguments, keywords))
    if goes == "cuda":
        held[1]["device"] = torch.device("cpu")
    result = function(*held[0], **held[1])
    if goes == "cpu" or not (any(pretended) or goes == "cuda"):
        return result
    same = {id(t.held): t for t in tensors if isinstance(t, Pretended)}  # operations in place return their argument

    def wrap(value):
        if not isinstance(value, torch.Tensor) or isinstance(value, Pretended):
            return value
        return same[id(value)] if id(value) in same else Pretended(value)

    return tree_map(wrap, result)


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        return dispatch(function, arguments, keywords or {})


def pretend() -> None:
    """From now on there is a CUDA device."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.version.cuda = "13.0"
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_name = lambda *_: "pretended"
    properties = SimpleNamespace(name="pretended", major=9, minor=0, multi_processor_count=132, total_memory=80e9)
    torch.cuda.get_device_properties = lambda *_: properties
    torch.cuda._lazy_init = torch._C._cuda_init = lambda: None
    torch.cuda.synchronize = torch.cuda.reset_peak_memory_stats = lambda *_: None
    torch.cuda.max_memory_allocated = lambda *_: 0
    torch.Tensor.pin_memory = lambda tensor: tensor
    _Everywhere().__enter__()
