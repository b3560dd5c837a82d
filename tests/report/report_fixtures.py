"""Fixtures of the tests of the report."""

import base64
import json
import runpy

import pytest

from sgtheory.command import report_errors
from sgtheory.training import CONF

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


@pytest.fixture
def write_figure(tmp_path):
    """Write NAME.json and NAME.png into a folder of figures; returns the folder."""
    folder = tmp_path / "figures"
    folder.mkdir()

    def write(name, claims, **numbers):
        (folder / f"{name}.json").write_text(json.dumps({**numbers, "claims": claims}))
        (folder / f"{name}.png").write_bytes(PIXEL)
        return folder

    return write


@pytest.fixture
def report_command(capsys, monkeypatch):
    """scripts/report.py in this process; returns (exit code, output, errors)."""
    main = runpy.run_path(str(CONF.parent / "scripts" / "report.py"))["main"]

    def run(*arguments, columns=200):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as end, report_errors():
            raise SystemExit(main([str(argument) for argument in arguments]))
        return end.value.code, *capsys.readouterr()

    return run
