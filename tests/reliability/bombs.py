"""Files that unpack to, or declare, far more than they hold, read with little memory to spare.

    python tests/reliability/bombs.py FOLDER

Prints a line for each file: its name, the memory (MiB) that reading it took at most, and what became of it.
"""

import gzip
import io
import resource
import struct
import sys
import tracemalloc
import types
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import torch
from valid_files import hear, shown, write_checkpoint, write_spikes

from sgtheory.data import fetch_radcliffe, load_shd, load_target
from sgtheory.errors import UserError
from sgtheory.reading import read_arrays
from sgtheory.training import load_checkpoint, read_records, restore_checkpoint

ROOM = 400 * 2**20  # bytes of address space that the reader may take beyond what it has
ZEROS = bytes(2**26)


def gz(path):
    path.write_bytes(gzip.compress(ZEROS) * 16)  # 1 GiB in 1 MiB


def deflated(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(path.stem, "w", force_zip64=True) as member,
    ):
        for _ in range(4):
            member.write(ZEROS)


def declared(path, size=2**40):
    """An archive whose directory promises more than there is."""
    np.savez(path, x=np.zeros(4))
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", min(size, 2**32 - 2))
    path.write_bytes(content)


def endless(shape):
    def write(path):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)

    return write


def dataset(name, **how):
    def write(path):
        write_spikes(path)
        with h5py.File(path, "a") as file:
            del file[name]
            file.create_dataset(name, **how)

    return write


def shared(path):
    """A hundred thousand samples that are one and the same array."""
    write_spikes(path)
    with h5py.File(path, "a") as file:
        for name in ("times", "units"):
            del file[f"spikes/{name}"]
            dtype = h5py.vlen_dtype(np.float16 if name == "times" else np.uint16)
            column = file.create_dataset(f"spikes/{name}", (100_000,), dtype)
            column[0] = np.zeros(2**20, dtype.metadata["vlen"])
        del file["labels"], file["extra"]
        file["labels"] = np.zeros(100_000, np.uint16)
        offsets = [file[f"spikes/{name}"].id.get_offset() for name in ("times", "units")]
    content = bytearray(path.read_bytes())
    for start in offsets:
        content[start : start + 16 * 100_000] = content[start : start + 16] * 100_000
    path.write_bytes(content)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, more=b""):
    def write(path):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        content = chunk(b"IDAT", zlib.compress(ZEROS, 9))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + more + content + chunk(b"IEND", b""))

    return write


def checkpoint(path):
    write_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        with archive.open(f"{next(iter(members)).partition('/')[0]}/data/9", "w", force_zip64=True) as member:
            member.write(ZEROS)


def expanded(path):
    """Tensors of 10^12 numbers, one number repeated."""
    content = io.BytesIO()
    torch.save({"epoch": 1, "state": {"w0": torch.zeros(1).expand(10**6, 10**6)}}, content)
    path.write_bytes(content.getvalue())


def flac(path):
    """A header of 2^36 - 1 samples, without any."""
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + struct.pack(">Q", 8000 << 44 | 15 << 36 | 2**36 - 1) + bytes(16)
    path.write_bytes(b"fLaC\x80\x00\x00\x22" + info)


def wav(path):
    fmt = struct.pack("<HHIIHH", 1, 1, 4000, 8000, 2, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WAVEfmt " + struct.pack("<I", 16) + fmt)
    with path.open("ab") as file:
        file.write(b"data" + struct.pack("<I", 2**31))
        file.truncate(2**31)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**33)


def restored(path):
    """Into a task with a small tensor of that name."""
    task = types.SimpleNamespace(state=lambda: {"w0": torch.zeros(3)}, restore=None)
    return restore_checkpoint(task, 2, path.parent)


BOMBS = {
    "gz/spikes.h5.gz": (gz, load_shd),
    "zip/spikes.h5.zip": (deflated, load_shd),
    "labels/spikes.h5": (dataset("labels", shape=(10**12,), dtype="u2", chunks=(10**6,), compression="gzip"), load_shd),
    "plain/spikes.h5": (dataset("labels", shape=(10**10,), dtype="u2"), load_shd),
    "times/spikes.h5": (dataset("spikes/times", shape=(10**12,), dtype=h5py.vlen_dtype("f2"), chunks=(9,)), load_shd),
    "keys/spikes.h5": (dataset("extra/keys", shape=(3,), dtype="S2000000000"), load_shd),
    "shared/spikes.h5": (shared, load_shd),
    "declared.npz": (declared, read_arrays),
    "endless.npz": (endless((10**12,)), read_arrays),
    "large.npz": (endless((10**9,)), read_arrays),
    "pixels.png": (png(200_000, 200_000), load_target),
    "row.png": (png(2**31 - 1, 1), load_target),
    "text.png": (png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(ZEROS, 9)) * 4), load_target),
    "profile.png": (png(9, 9, chunk(b"iCCP", b"a\0\0" + zlib.compress(ZEROS, 9))), load_target),
    "radcliffe.png": (png(30_000, 30_000), fetch_radcliffe),
    "deflated/checkpoint.pt": (checkpoint, lambda path: load_checkpoint(path.parent)),
    "expanded/checkpoint.pt": (expanded, restored),
    "flac/long.flac": (flac, hear),
    "wav/long.wav": (wav, hear),
    "records.csv": (sparse, read_records),
    "numbers.json": (sparse, shown),
}


def main(folder: Path) -> None:
    for name, (write, _) in BOMBS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name)
    used = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line).split()[1])
    resource.setrlimit(resource.RLIMIT_AS, (1024 * used + ROOM, resource.RLIM_INFINITY))
    for name, (_, read) in BOMBS.items():
        tracemalloc.start()
        try:
            read(folder / name)
            outcome = "read"
        except UserError as error:
            outcome = f"refused: {error}"
        most = tracemalloc.get_traced_memory()[1] >> 20
        tracemalloc.stop()
        print(f"{name}\t{most}\t{outcome}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
