"""Every file that is read, with bytes changed at random: it is the same kind of thing, or refused in one sentence."""

import faulthandler

import pytest
from hypothesis import event, given
from mutations import MUTATIONS, Refused, mutate, read_or_refused
from valid_files import FILES, NAMES

pytestmark = pytest.mark.fuzz
HANGS = 1200  # seconds, after which a library that runs in circles is ended with the place where it does


@pytest.fixture(autouse=True)
def no_hang():
    faulthandler.dump_traceback_later(HANGS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Writes a valid file, once; returns path and content."""
    folder, written = tmp_path_factory.mktemp("files"), {}

    def write(name):
        if name not in written:
            path = folder / name.replace("/", "_") / name
            path.parent.mkdir(parents=True)
            FILES[name][0](path)
            written[name] = path, path.read_bytes()
        return written[name]

    return write


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_file_is_read(name, valid):
    path, _ = valid(name)
    _, read, kind = FILES[name]
    assert isinstance(read(path), kind)


@pytest.mark.parametrize("name", NAMES)
@given(edits=MUTATIONS)
def test_a_file_with_changed_bytes_is_read_or_refused(name, valid, edits):
    path, content = valid(name)
    _, read, kind = FILES[name]
    path.write_bytes(mutate(content, edits))
    try:
        event("refused" if isinstance(read_or_refused(read, path, kind), Refused) else "read")
    finally:
        path.write_bytes(content)
