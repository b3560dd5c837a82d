"""Downloads that survive slow servers: resumed, tried again, checked, and whole or not there."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import requests
import urllib3
from filelock import FileLock
from PIL import Image

from sgtheory.data._shd import SHD_FILES, SHD_MD5, load_shd, md5
from sgtheory.errors import UserError

SHD_SERVERS = ("https://zenkelab.org/datasets", "https://compneuro.net/datasets")
SHD_SUFFIXES = (".gz", ".zip", "")  # in the order of preference
RADCLIFFE_SERVER = "https://raw.githubusercontent.com/fmi-basel/surrogate-gradient-theory/main"
RADCLIFFE_FILE = "Spike_train_matching/experiments/dataset/oxford.png"
RADCLIFFE_SIZE = (189, 200)  # width, height
FILE_AT_MOST = 2**31  # bytes: ten times the largest that is asked for
CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)")
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}  # HTTP errors that may be gone at the next attempt

log = logging.getLogger("sgtheory")
Progress = Callable[[str, int, int | None], None]


class DownloadError(UserError):
    """A file could not be fetched; the message says why and what to do."""

    exit_code = 1


class NotThere(DownloadError):
    """The server has no such file."""


def download(
    url: str,
    path: str | os.PathLike,
    check: Callable[[Path], None],
    progress: Progress | None = None,
    attempts: int = 4,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> None:
    """Fetch ``url`` and store it as ``path`` if it passes ``check``. A file that is there already is checked and kept.

    The bytes are collected in ``path`` + ``.part``, which is kept when the connection fails, so that this or another
    call goes on where it ended (HTTP Range), also from another server with the same file. Proxies are taken from the
    environment (``https_proxy``, ``no_proxy``).

    Args:
        url: http or https.
        path: where the file is stored, by renaming; its directory is made.
        check: called with the finished ``.part`` file; raises :class:`UserError` if it is not what it should be.
        progress: called with the name of the file, bytes so far, and bytes in all (None if the server does not say).
        attempts: how often to try in a row without receiving anything new.
        pause: seconds before the second attempt; doubled with each further one.
        timeout: seconds to wait for an answer.

    Raises:
        UserError: from ``check``, if ``path`` is there already and is not what it should be.
        NotThere: if the server has no such file.
        DownloadError: if the attempts are used up or the file fails its check; the ``.part`` is deleted in the latter
            case.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():  # from the start, or since another process had the lock
            check(path)
            return
        resumed = part.exists()
        _collect(url, part, progress, attempts, pause, timeout)
        try:
            check(part)
        except UserError as error:
            part.unlink()
            if not resumed:
                raise DownloadError(f"{url} is not the right file: {error}") from None
        else:
            part.replace(path)
            return
    download(url, path, check, progress, attempts, pause, timeout)  # what was there was the part of another file


def _collect(url: str, part: Path, progress: Progress | None, attempts: int, pause: float, timeout: float) -> None:
    failures = 0
    while True:
        size = part.stat().st_size if part.exists() else 0
        try:
            if _receive(url, part, size, progress, timeout):
                return
            reason = "the connection was cut"
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, ValueError):  # as the library says that it cannot read an address
                raise DownloadError(f"{url} is not an address to download from") from None
            reason = f"no connection ({type(error).__name__})"
        except _Refused as error:
            reason = str(error)
        grown = part.exists() and part.stat().st_size > size
        failures = 1 if grown else failures + 1
        if failures >= attempts:
            raise DownloadError(f"{url} failed {attempts} times: {reason}")
        wait = pause * 2 ** (failures - 1)
        log.warning("%s: %s; trying again in %g s", url, reason, wait)
        time.sleep(wait)


class _Refused(Exception):
    """The server answered with an error that may be gone at the next attempt."""


def _receive(url: str, part: Path, size: int, progress: Progress | None, timeout: float) -> bool:
    """One request for what is missing of ``part``; whether it is complete now."""
    headers = {"Accept-Encoding": "identity"}  # a .gz file is to arrive as it is
    if size:
        headers["Range"] = f"bytes={size}-"
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        code = answer.status_code
        content_range = CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        total = None
        if content_range and content_range[2] != "*":
            total = int(content_range[2])
        if code == 416 and total == size:
            return True
        if code == 416 or (code == 206 and not (content_range and content_range[1] == str(size))):
            part.unlink(missing_ok=True)
            raise _Refused("the server cannot resume")
        if code in (404, 410):
            raise NotThere(f"{url} is not there (HTTP {code})")
        if code in TEMPORARY:
            raise _Refused(f"HTTP {code}")
        if code not in (200, 206):
            raise DownloadError(f"{url} cannot be fetched (HTTP {code})")
        if code == 200:
            size, length = 0, answer.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
        with open(part, "ab" if code == 206 else "wb") as file:
            for block in answer.raw.stream(1 << 16, decode_content=False):
                file.write(block)
                size += len(block)
                if size > FILE_AT_MOST:
                    file.truncate(0)
                    raise DownloadError(f"{url} is not the right file: it is larger than {FILE_AT_MOST >> 30} GiB")
                if progress:
                    progress(part.name.removesuffix(".part"), size, total)
            file.flush()
            os.fsync(file.fileno())
        return total is None or size >= total


def fetch_shd(
    directory: str | os.PathLike,
    servers: Iterable[str] = SHD_SERVERS,
    sums: Mapping[str, str] = SHD_MD5,
    progress: Progress | None = None,
    name: str = "shd",
    **settings,
) -> list[Path]:
    """Fetch the files of SHD (155 MB) or SSC (about 2 GB) into ``directory`` and check their MD5 sums.

    A file that is there already and has one of these sums is kept; of SSC there are none for unpacked files. Of each
    server the ``.gz``, the ``.zip`` and the unpacked file are tried in turn, then the next server.

    Args:
        directory: is made if needed.
        servers: addresses of the folders that hold the files.
        sums: MD5 sum of each file by name; by default those that the authors publish.
        progress, settings: of :func:`download`.
        name: ``"shd"`` or ``"ssc"``.

    Returns:
        The files, that of the training set first.

    Raises:
        UserError: if a file of that name is there, but is another one.
        DownloadError: if a file could not be fetched.
    """
    directory = Path(directory)
    names = [f"{stem}.h5" for stem in SHD_FILES[name]]
    present = [_present(directory, file, sums) for file in names]
    return [
        path or _fetch(directory, file, servers, sums, progress, settings)
        for file, path in zip(names, present, strict=True)
    ]


def _present(directory: Path, name: str, sums: Mapping[str, str]) -> Path | None:
    for path in (directory / f"{name}{suffix}" for suffix in ("", *SHD_SUFFIXES)):
        if path.exists():
            if md5(path) != (expected := sums.get(path.name)):
                known = "its MD5 sum is not that" if expected else "no MD5 sum is known"
                raise UserError(
                    f"{path} is there, but {known} of the file of {name[:3].upper()}: remove it or name another folder"
                )
            return path
    return None


def _fetch(directory, name, servers, sums, progress, settings) -> Path:
    reasons = []
    for server in servers:
        for path in (directory / f"{name}{suffix}" for suffix in SHD_SUFFIXES):
            if path.name not in sums:
                continue
            try:
                download(f"{server.rstrip('/')}/{path.name}", path, _has_md5(sums[path.name]), progress, **settings)
            except NotThere as error:
                reasons.append(str(error))
                continue
            except DownloadError as error:
                reasons.append(str(error))
                break
            try:
                load_shd(path)
            except UserError:
                path.unlink()
                raise
            return path
    raise DownloadError(
        f"{name} could not be downloaded ({'; '.join(reasons)}): check the network or the proxy (https_proxy) and run "
        f"the command again, it goes on where it ended, or put {name}.gz into {directory} by hand"
    )


def _has_md5(expected: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        if (found := md5(path)) != expected:
            raise UserError(f"MD5 sum {found} instead of {expected}")

    return check


def fetch_radcliffe(
    path: str | os.PathLike, server: str = RADCLIFFE_SERVER, progress: Progress | None = None, **settings
) -> Path:
    """Fetch the authors' target picture of the spike-train matching task, 189 pixels wide and 200 high.

    It has no licence and is not part of this package. A picture that is there already is kept if it has that size.

    Args:
        path: of the PNG file.
        server: address of the authors' repository.
        progress, settings: of :func:`download`.

    Returns:
        ``path``.

    Raises:
        UserError: if another file is there.
        DownloadError: if it could not be fetched or is not such a picture.
    """
    path = Path(path)
    try:
        download(f"{server.rstrip('/')}/{RADCLIFFE_FILE}", path, _is_radcliffe, progress, **settings)
    except DownloadError as error:
        raise DownloadError(
            f"the picture could not be downloaded ({error}): check the network or the proxy (https_proxy) and run the "
            f"command again, or put the file {RADCLIFFE_FILE} of the authors' repository to {path} by hand"
        ) from None
    return path


def _is_radcliffe(path: Path) -> None:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            size, mode = picture.size, picture.mode
            if size == RADCLIFFE_SIZE:  # a larger one may be a bomb
                picture.load()
    except Exception:  # what a decoder raises for a damaged file differs
        raise UserError(f"{path} is not a picture") from None
    if size != RADCLIFFE_SIZE or mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise UserError(f"{path} is a picture of {size[0]} x {size[1]} pixels ({mode}), not of 189 x 200")
