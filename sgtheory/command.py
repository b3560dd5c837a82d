"""What the scripts share: arguments KEY=VALUE, and how a program ends after an error."""

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence

from sgtheory.errors import UserError, disk_sentence, first_line, is_out_of_memory

CONFIGURATION = ("hydra", "omegaconf", "antlr4")  # whose errors are about what the user has written


class Interrupted(Exception):
    """A signal asked the program to stop, and what it had done is saved."""

    def __init__(self, number: int):
        super().__init__(f"interrupted by {signal.Signals(number).name}; the same command goes on from here")
        self.number, self.exit_code = number, 128 + number

    def __reduce__(self):
        return type(self), (self.number,)


def take(keys: Collection[str], arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Values of the arguments KEY=VALUE with one of ``keys``, with ``~`` as the home folder; and all other arguments.

    Raises:
        UserError: if one has no value.
    """
    given, others = {}, []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in keys:
            others.append(argument)
        elif value:
            given[key] = os.path.expanduser(value)
        else:
            raise UserError(f"{key}= has no value")
    return given, others


def parse(
    description: str,
    positional: Mapping[str, str],
    settings: Mapping[str, str],
    arguments: Sequence[str],
    flags: Mapping[str, str] = {},
):
    """Positional arguments, settings and flags of a command line.

    Args:
        description: shown by ``--help``.
        positional: name and meaning of each positional argument.
        settings: ``key=default`` and meaning of each setting.
        arguments: of the command line.
        flags: ``--name`` and meaning of each flag.

    Returns:
        The positional arguments, a dict of the settings that were given, and whether each flag was.

    Raises:
        UserError: if an argument is missing, or a setting is unknown or has no value.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=" ".join(["%(prog)s", *positional, "[KEY=VALUE ...]", *(f"[{flag}]" for flag in flags)]),
        epilog="settings:\n" + "\n".join(f"  {key:<34}{meaning}" for key, meaning in settings.items()),
        exit_on_error=False,
    )
    for name, meaning in positional.items():
        parser.add_argument(name, nargs="?", help=meaning)
    for flag, meaning in flags.items():
        parser.add_argument(flag, action="store_true", help=meaning)
    known = [key.split("=")[0] for key in settings]
    chosen, others = take(known, arguments)
    given, rest = parser.parse_known_args([a for a in others if "=" not in a])
    values = [getattr(given, name) for name in positional]
    if rest:
        raise UserError(f"{rest[0]!r} is not an argument of this command: see --help")
    if None in values:
        raise UserError(f"{list(positional)[values.index(None)]} is missing: see --help")
    if unknown := [a.partition("=")[0] for a in others if "=" in a]:
        raise UserError(f"there is no setting {unknown[0]!r}: the settings are {', '.join(known)}")
    return values, chosen, *(getattr(given, flag.lstrip("-").replace("-", "_")) for flag in flags)


def one_sentence(error: Exception) -> str:
    """The message of a configuration error of Hydra or OmegaConf on one line, with the full key.

    A user's mistake that was found while an interpolation was resolved speaks for itself.
    """
    cause = error
    while cause := cause.__context__:
        if isinstance(cause, UserError):
            return str(cause)
    lines = [line.strip() for line in str(error).splitlines()]
    text = " ".join(line for line in lines if not line.startswith(("object_type=", "reference_type=")))
    # what Hydra recommends for a misspelt key makes a new one, which nothing looks at
    text = re.sub(r" To append to your config use \S+$", " There is no such key", text)
    text = text.split(" Config search path:")[0].replace(" full_key: ", ", key ").strip()
    return " ".join(text.split())


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """End the program with one sentence on stderr and an exit code, both from :func:`explain`."""
    logging.captureWarnings(True)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # who read the output has gone (| head), and wants to hear nothing more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (Exception, KeyboardInterrupt) as error:
        if (explanation := explain(error)) is None:
            raise
        sys.exit(fail(*explanation))


def explain(error: BaseException) -> tuple[str, int] | None:
    """One sentence and an exit code for an error that a user can cause; None for a fault of the program.

    The code is 2 after a user's mistake, 128 + n after signal n, 1 if network or disk failed, memory was not enough, or
    a job could not be submitted or was lost.
    """
    if isinstance(error, UserError | Interrupted):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    package = type(error).__module__.partition(".")[0]
    if package in CONFIGURATION or _raised_in(error) in CONFIGURATION:
        return one_sentence(error), UserError.exit_code
    if isinstance(error, OSError):
        return disk_sentence(error), 1
    if is_out_of_memory(error):
        return f"there is not enough memory for this: {first_line(error)}", 1
    if package == "submitit":
        where = "logs: .submitit in the folder of the runs; the same command goes on from there"
        return f"{first_line(error)} ({where})", 1
    return None


def _raised_in(error: BaseException) -> str:
    """The package whose code raised an error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").partition(".")[0]


def fail(sentence: str, code: int) -> int:
    """Print ``error: ...`` on stderr; returns the exit code."""
    print(f"error: {' '.join(sentence.splitlines())}", file=sys.stderr)  # names of files may have several lines
    return code


def _uncaught(kind, error, trace):
    if issubclass(kind, KeyboardInterrupt):
        fail(*explain(error))
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _uncaught  # Ctrl-C while a script loads its libraries, before report_errors has begun
