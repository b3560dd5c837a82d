"""Downloads from servers that cut, lie and fail, all of them on this machine."""

import gzip
import hashlib
import io
import logging
import runpy
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from server import Server

from sgtheory.command import report_errors
from sgtheory.data import DownloadError, SpikeDataset, fetch_radcliffe, fetch_shd, write_shd
from sgtheory.data._download import RADCLIFFE_FILE, NotThere, download
from sgtheory.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)
FAST = {"pause": 0.001, "timeout": 5}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file.bin"


def is_content(path):
    if path.read_bytes() != CONTENT:
        raise UserError("wrong content")


def ranges(server):
    return [asked for _, asked in server.requests]


def leftovers(path):
    return [p.name for p in path.parent.iterdir() if p != path and not p.name.endswith(".lock")]


def test_a_file_arrives_and_progress_is_told(server, path):
    server.files["/file.bin"] = CONTENT
    told = []
    download(f"{server.url}/file.bin", path, is_content, lambda *now: told.append(now), **FAST)
    assert path.read_bytes() == CONTENT
    assert leftovers(path) == []
    assert told[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_a_cut_connection_is_resumed_where_it_ended(server, path, caplog):
    server.files["/file.bin"] = CONTENT
    server.plan = ["cut"] * 6  # more often than there are attempts in a row: each brings something new
    with caplog.at_level(logging.WARNING):
        download(f"{server.url}/file.bin", path, is_content, attempts=3, **FAST)
    assert path.read_bytes() == CONTENT
    assert ranges(server)[:3] == [None, "bytes=150000-", "bytes=225000-"]
    assert len(server.requests) == 7
    assert "trying again" in caplog.text


def test_a_later_call_goes_on_with_the_part(server, path):
    server.files["/file.bin"] = CONTENT
    server.plan = ["cut", 503, 503]
    with pytest.raises(DownloadError, match="HTTP 503"):
        download(f"{server.url}/file.bin", path, is_content, attempts=3, **FAST)
    assert not path.exists()
    assert leftovers(path) == ["file.bin.part"]
    download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert ranges(server)[-1] == "bytes=150000-"
    assert leftovers(path) == []


def test_a_server_without_ranges_begins_again(server, path):
    server.files["/file.bin"] = CONTENT
    server.plan = ["cut", "no ranges"]
    download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert path.read_bytes() == CONTENT


def test_a_wrong_range_is_not_appended(server, path):
    server.files["/file.bin"] = CONTENT
    server.plan = ["cut", "wrong range"]
    download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert path.read_bytes() == CONTENT
    assert ranges(server)[-1] is None


def test_a_complete_part_is_checked_and_renamed(server, path):
    server.files["/file.bin"] = CONTENT
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT)
    download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [1000, 400_000])
def test_a_part_of_another_file_is_thrown_away(server, path, size):
    server.files["/file.bin"] = CONTENT
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(b"x" * size)
    download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert path.read_bytes() == CONTENT


def test_garbage_is_refused_and_deleted(server, path):
    server.files["/file.bin"] = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="not the right file: wrong content"):
        download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert not path.exists()
    assert leftovers(path) == []


def test_404_is_not_tried_again(server, path):
    with pytest.raises(NotThere, match="404"):
        download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert len(server.requests) == 1


def test_temporary_errors_are_tried_again(server, path):
    server.files["/file.bin"] = CONTENT
    server.plan = [503, 429, 500]
    download(f"{server.url}/file.bin", path, is_content, **FAST)
    assert len(server.requests) == 4


def test_no_server_is_one_sentence(path):
    with Server() as server:
        url = server.url
    with pytest.raises(DownloadError, match=r"failed 2 times: no connection") as error:
        download(f"{url}/file.bin", path, is_content, attempts=2, **FAST)
    assert "\n" not in str(error.value)
    with pytest.raises(DownloadError, match="not an address"):
        download("zenkelab.org/file.bin", path, is_content, **FAST)


def test_a_compressed_file_is_stored_as_it_is(server, path, monkeypatch):
    """A library that unpacks Content-Encoding would store something else than what the MD5 sum is of."""
    packed = gzip.compress(CONTENT)
    server.files["/file.bin"] = packed
    send_response = BaseHTTPRequestHandler.send_response

    def labelled(request, code, message=None):
        send_response(request, code, message)
        request.send_header("Content-Encoding", "gzip")

    monkeypatch.setattr(server.server.RequestHandlerClass, "send_response", labelled)
    download(f"{server.url}/file.bin", path, lambda part: None, **FAST)
    assert path.read_bytes() == packed
    assert server.encodings == ["identity"]


def test_the_proxy_of_the_environment_is_used(server, path, monkeypatch):
    server.files["http://data.invalid/file.bin"] = CONTENT
    monkeypatch.setenv("http_proxy", server.url)
    download("http://data.invalid/file.bin", path, is_content, **FAST)
    assert server.requests == [("http://data.invalid/file.bin", None)]


@pytest.fixture(scope="module")
def shd(tmp_path_factory):
    """Files by name as SHD's server has them, with two samples each, and their MD5 sums."""
    folder = tmp_path_factory.mktemp("shd")
    files = {}
    for name in ("shd_train.h5", "shd_test.h5"):
        data = SpikeDataset.from_samples([[0.1], [0.2, 0.3]], [[1], [2, 3]], [0, 1], ["a", "b"], "tiny")
        write_shd(folder / name, data)
        plain = (folder / name).read_bytes()
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(name, plain)
        files |= {name: plain, f"{name}.gz": gzip.compress(plain), f"{name}.zip": archive.getvalue()}
    return files, {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


@pytest.mark.parametrize("suffix", [".gz", ".zip", ""])
def test_shd_in_whatever_form_the_server_has(server, tmp_path, shd, suffix):
    files, sums = shd
    server.files = {f"/data/shd_{split}.h5{suffix}": files[f"shd_{split}.h5{suffix}"] for split in ("train", "test")}
    found = fetch_shd(tmp_path, [f"{server.url}/data/"], sums, **FAST)
    assert [path.name for path in found] == [f"shd_train.h5{suffix}", f"shd_test.h5{suffix}"]
    asked = len(server.requests)
    assert fetch_shd(tmp_path, [server.url], sums, **FAST) == found
    assert len(server.requests) == asked  # what is there is not fetched again


def test_speech_commands_are_three_files(server, tmp_path, shd):
    content = shd[0]["shd_test.h5"]
    server.files = {f"/ssc_{part}.h5": content for part in ("train", "valid", "test")}
    sums = {name[1:]: hashlib.md5(content).hexdigest() for name in server.files}
    found = fetch_shd(tmp_path, [server.url], sums, name="ssc", **FAST)
    assert [path.name for path in found] == ["ssc_train.h5", "ssc_valid.h5", "ssc_test.h5"]
    with pytest.raises(DownloadError, match=r"ssc_train.h5 could not be downloaded .*HTTP 404"):
        fetch_shd(tmp_path / "official", [server.url], name="ssc", **FAST)
    assert server.requests[-1][0] == "/ssc_train.h5.zip"  # the one form whose sum is known
    with pytest.raises(UserError, match=r"ssc_train\.h5 is there, but no MD5 sum is known of the file of SSC"):
        fetch_shd(tmp_path, [server.url], name="ssc", **FAST)


def test_the_mirror_is_used_and_gets_only_what_is_missing(server, tmp_path, shd):
    files, sums = shd
    with Server() as mirror:
        for each in (server, mirror):
            each.files = {f"/{name}": content for name, content in files.items()}
        server.plan = ["cut", 503, 503, 503]
        fetch_shd(tmp_path, [server.url, mirror.url], sums, **FAST)
        assert mirror.requests == [("/shd_train.h5.gz", f"bytes={len(files['shd_train.h5.gz']) // 2}-")]


def test_a_wrong_checksum_is_refused_everywhere(server, tmp_path, shd):
    files, sums = shd
    server.files = {f"/{name}": content[:-1] + b"x" for name, content in files.items()}
    with pytest.raises(DownloadError, match=r"shd_train\.h5 could not be downloaded.*MD5 sum.*instead of"):
        fetch_shd(tmp_path, [server.url], sums, **FAST)
    server.files = {f"/{name}": content for name, content in files.items()}
    with pytest.raises(DownloadError, match="d47c9825dee33347913e8ce0f2be08b0"):
        fetch_shd(tmp_path, [server.url], **FAST)
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_nothing_there_names_what_to_do(server, tmp_path):
    with pytest.raises(DownloadError, match=r"HTTP 404.*check the network.*by hand") as error:
        fetch_shd(tmp_path, [server.url], **FAST)
    assert "\n" not in str(error.value)


def test_another_file_of_that_name_is_kept(server, tmp_path, shd):
    (tmp_path / "shd_test.h5.zip").write_bytes(b"mine")
    files, sums = shd
    server.files = {f"/{name}": content for name, content in files.items()}
    with pytest.raises(UserError, match=r"shd_test\.h5\.zip is there, but its MD5 sum"):
        fetch_shd(tmp_path, [server.url], sums, **FAST)
    assert (tmp_path / "shd_test.h5.zip").read_bytes() == b"mine"
    assert server.requests == []


def test_a_downloaded_zip_with_a_path_outside_is_refused(server, tmp_path, shd):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../shd_train.h5", shd[0]["shd_train.h5"])
    server.files["/shd_train.h5.zip"] = archive.getvalue()
    sums = {"shd_train.h5.zip": hashlib.md5(archive.getvalue()).hexdigest()}
    folder = tmp_path / "folder"
    with pytest.raises(UserError, match="is refused"):
        fetch_shd(folder, [server.url], sums, **FAST)
    assert list(tmp_path.rglob("*.h5*")) == [folder / ".shd_train.h5.zip.lock"]


def picture(size, mode="L", form="PNG"):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def test_the_picture_of_the_authors(server, tmp_path):
    path = tmp_path / "data" / "radcliffe_authors.png"
    server.files[f"/{RADCLIFFE_FILE}"] = picture((200, 189))
    with pytest.raises(DownloadError, match="200 x 189 pixels"):
        fetch_radcliffe(path, server.url, **FAST)
    server.files[f"/{RADCLIFFE_FILE}"] = picture((189, 200))[:60]
    with pytest.raises(DownloadError, match="not a picture"):
        fetch_radcliffe(path, server.url, **FAST)
    assert not path.exists()
    server.files[f"/{RADCLIFFE_FILE}"] = content = picture((189, 200), "RGBA")
    assert fetch_radcliffe(path, server.url, **FAST) == path
    assert path.read_bytes() == content
    asked = len(server.requests)
    fetch_radcliffe(path, server.url, **FAST)
    assert len(server.requests) == asked
    path.write_bytes(picture((3, 3)))
    with pytest.raises(UserError, match="3 x 3 pixels"):
        fetch_radcliffe(path, server.url, **FAST)


def test_script(server, script, tmp_path, shd):
    files, sums = shd
    server.files = {f"/{name}": content for name, content in files.items()}
    listed = tmp_path / "md5sums.txt"
    listed.write_text("".join(f"{value}  {name}\n" for name, value in sums.items()))
    base = f"data.base_url={server.url}"
    done = script("fetch_data.py", "shd", base, f"data.dir={tmp_path / 'shd'}", f"data.md5sums={listed}")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'shd' / 'shd_test.h5.gz'}: tiny, 2 samples" in done.stdout
    failed = script("fetch_data.py", "shd", base, f"data.dir={tmp_path / 'official'}")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith("error: shd_train.h5 could not be downloaded")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "WHAT is missing"),
        (["mnist"], "'mnist' cannot be fetched"),
        (["shd", "data.dri=x"], "no setting 'data.dri'"),
        (["shd", "data.dir="], "no value"),
        (["shd", "again"], "'again' is not an argument"),
        (["shd", "--force"], "'--force' is not an argument"),
        (["shd", "data.md5sums=/nonexistent"], "cannot be read"),
        (["radcliffe", "data.md5sums=x"], "is a setting of shd"),
    ],
)
def test_script_arguments(arguments, message, capsys):
    main = runpy.run_path(Path(__file__).parents[2] / "scripts" / "fetch_data.py")["main"]
    with pytest.raises(SystemExit) as exit, report_errors():
        main(arguments)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert message in error
    assert error.count("\n") == 1
