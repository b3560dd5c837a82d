"""What the scripts that get and make data share: KEY=VALUE arguments and how they end."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from sgtheory.data._download import DownloadError
from sgtheory.errors import UserError, disk_sentence


def parse(description: str, positional: Mapping[str, str], settings: Mapping[str, str], arguments: Sequence[str]):
    """Positional arguments and settings of a command line.

    Args:
        description: shown by ``--help``.
        positional: name and meaning of each positional argument.
        settings: ``key=default`` and meaning of each setting.
        arguments: of the command line.

    Returns:
        The positional arguments, and a dict of the settings that were given.

    Raises:
        UserError: if an argument is missing, or a setting is unknown or has no value.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"%(prog)s {' '.join(positional)} [KEY=VALUE ...]",
        epilog="settings:\n" + "\n".join(f"  {key:<34}{meaning}" for key, meaning in settings.items()),
        exit_on_error=False,
    )
    for name, meaning in positional.items():
        parser.add_argument(name, nargs="?", help=meaning)
    given, rest = parser.parse_known_args([a for a in arguments if "=" not in a])
    values = [getattr(given, name) for name in positional]
    if rest:
        raise UserError(f"{rest[0]!r} is not an argument of this command: see --help")
    if None in values:
        raise UserError(f"{list(positional)[values.index(None)]} is missing: see --help")
    known = [key.split("=")[0] for key in settings]
    chosen = dict(a.split("=", 1) for a in arguments if "=" in a)
    for key, value in chosen.items():
        if key not in known:
            raise UserError(f"there is no setting {key!r}: the settings are {', '.join(known)}")
        if not value:
            raise UserError(f"{key}= has no value")
    return values, chosen


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """End the program with one sentence on stderr: 1 if network or disk failed, 2 after a user's mistake."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, DownloadError) else 2)
    except OSError as error:
        print(f"error: {disk_sentence(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
