"""HDF5 files that may come from anywhere, packed or not: opened if whole, read within limits, and nothing but the file.

An HDF5 file can name other files to read from, declare arrays without data of any size, and make the library itself run
in circles; an archive can unpack to a thousand times its size.
"""

import contextlib
import gzip
import io
import mmap
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import h5py

from sgtheory.errors import UserError, first_line

SLACK = 2**20  # bytes that any file may have unpacked; beyond,
RATIO = 100  # times its packed size (spikes are packed to about a half),
UNPACKED_AT_MOST = 2**32  # bytes
ROWS_AT_MOST = 10_000_000  # of a dataset
ELEMENT_AT_MOST = 1024  # bytes
HEAP = b"GCOL\x01"  # signature and version of a global heap collection, where HDF5 keeps arrays of different lengths
SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file ``path``: ``.h5`` itself, ``.gz`` or ``.zip`` unpacked in memory.

    Raises:
        UserError: naming the file, if it is not there, damaged, or too large; also for whatever a damaged file makes
            the library raise while it is open.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} is not there")
    try:
        with _content(path) as content:
            _check_superblock(content)
            _check_heaps(content)
            with h5py.File(path if isinstance(content, mmap.mmap) else io.BytesIO(content), "r") as file:
                yield file
    except UserError:
        raise
    except Exception as error:  # h5py, zipfile and zlib raise almost anything for a damaged file
        raise UserError(f"{path} cannot be read, it may be truncated: {first_line(error)}") from None


def column(file: h5py.File, path: Path, name: str, kinds: str, ragged: bool = False) -> h5py.Dataset | None:
    """The one-dimensional dataset ``name`` of ``file``, checked before anything of it is read; None if it is not there.

    Args:
        file: open.
        path: of the file, for messages.
        name: from the root, as in ``"spikes/times"``.
        kinds: of numpy dtypes that it may have.
        ragged: whether an element is an array of these.

    Raises:
        UserError: naming file and dataset, if it is something else, lies elsewhere or is too long.
    """
    node = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or part not in node.keys():  # noqa: SIM118 (a link is followed by `in node`)
            return None
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise UserError(f"{path} is refused: {name} is a link to somewhere else")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.ndim != 1:
        raise UserError(f"{path} is not in the format of SHD: {name} must be a dataset with one dimension")
    if node.external or node.is_virtual:
        raise UserError(f"{path} is refused: {name} lies in another file")
    dtype = h5py.check_vlen_dtype(node.dtype) if ragged else node.dtype
    kind = "S" if h5py.check_string_dtype(node.dtype) else getattr(dtype, "kind", "")
    if ragged and any(node.id.get_type().encode()[3:6]):  # neither sequence nor text, of which the library dies
        raise ValueError(f"the type of {name} is damaged")
    if kind not in tuple(kinds) or node.dtype.itemsize > ELEMENT_AT_MOST:
        raise UserError(f"{path} is not in the format of SHD: {name} has elements of another type ({node.dtype})")
    if len(node) > ROWS_AT_MOST:
        raise UserError(f"{path} is refused: {name} has {len(node)} elements, more than {ROWS_AT_MOST}")
    return node


@contextlib.contextmanager
def _content(path: Path) -> Iterator[bytes | mmap.mmap]:
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        size = path.stat().st_size
        if path.suffix not in (".gz", ".zip"):
            yield opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return
        most = min(SLACK + RATIO * size, UNPACKED_AT_MOST)
        bomb = UserError(f"{path} is refused: its {size} bytes unpack to more than {most}")
        if path.suffix == ".gz":
            packed = gzip.GzipFile(fileobj=file)
        else:
            archive = opened.enter_context(zipfile.ZipFile(file))
            member = _member(path, archive)
            if member.file_size > most:
                raise bomb
            packed = archive.open(member)
        content = opened.enter_context(packed).read(most + 1)
        if len(content) > most:
            raise bomb
        yield content


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The member of a zip archive that has its name."""
    names = archive.namelist()
    outside = [name for name in names if name.startswith(("/", "\\")) or ".." in PurePosixPath(name).parts]
    if outside:
        raise UserError(f"{path} is refused: it contains a path outside of its folder, {outside[0]!r}")
    members = [name for name in names if PurePosixPath(name).name == path.stem]
    if len(members) != 1:
        raise UserError(f"{path} does not contain {path.stem}")
    return archive.getinfo(members[0])


def _check_superblock(content: bytes | mmap.mmap) -> None:
    """Addresses and lengths of eight bytes, as every writer of today makes them, and as :func:`_check_heaps` needs."""
    sizes = content[13:15] if content[8:9] < b"\x02" else content[9:11]
    if content[:8] != SIGNATURE or sizes != b"\x08\x08":
        raise ValueError("it does not start like an HDF5 file")


def _check_heaps(content: bytes | mmap.mmap) -> None:
    """Objects of a global heap that have no size: the library would walk over them for ever."""
    start = content.find(HEAP)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        heap, at = content[start : min(end, len(content))], 16
        while at + 16 <= len(heap):
            size = int.from_bytes(heap[at + 8 : at + 16], "little")
            taken = 16 + (size + 7) // 8 * 8 if any(heap[at : at + 2]) else size  # free space counts its own header
            if taken < 16:
                raise ValueError("an array in it has no size")
            at += taken
        if end > len(content) or at > len(heap):
            raise ValueError("an array in it is longer than the file")
        start = content.find(HEAP, max(start + 8, end))
