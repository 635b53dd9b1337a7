"""What stands between the shell and a command: the streams that it prints to, the places it is in, and how it ends.

No error is a verdict. Exit code 1 is what a command found out (failed trials, a regression); what went wrong with the
command itself is 2, in a sentence. Standard library only, and what is seldom needed is imported then: `iobench --help`
must be quick.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from bench.errors import BadInputError, shown
from bench.say import NO_BREAK, complain, plain

BAD_INPUT = 2
DEBUG = "IOBENCH_DEBUG"  # --debug puts it into the environment, so that what is started here has it too


class _Outlasting(io.FileIO):
    """A standard stream that is written to, to nowhere, when it can't be written to any more.

    Its reader may have gone (EPIPE, as in `iobench gate | head`) or the disk be full. That ends the printing and not
    the measuring, and changes no exit code.
    """

    def write(self, data: Any, /) -> int:
        """Write as FileIO does, but for errors."""
        try:
            return super().write(data)
        except OSError as error:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - pathlib takes long to import
                os.dup2(nowhere.fileno(), self.fileno())
            if error.errno != errno.EPIPE:
                complain(f"warning: what is printed here is lost: {error.strerror}")
            return len(data)


def open_streams() -> None:
    """Let standard output and standard error show what their encoding can, spell out the rest, and outlast readers."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):  # None where it was closed, or somebody's own
            continue
        stream.flush()
        buffer = io.BufferedWriter(_Outlasting(stream.fileno(), "w", closefd=False))
        at_once = stream.line_buffering or stream.write_through
        text = io.TextIOWrapper(buffer, stream.encoding, errors="backslashreplace", line_buffering=at_once)
        setattr(sys, name, text)


def refuse_odd_places(arguments: Sequence[str]) -> None:
    """Refuse names that are not UTF-8, as all files of results are, and a folder that is gone. Raises BadInputError.

    Python has the bytes of such a name as surrogates (PEP 383), which can't be written to a file.
    """
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib takes long to import
    except OSError as error:
        raise BadInputError(f"The folder that this is run in is gone: {error.strerror}.", "cd to another") from None
    places = [("The folder that this is run in", here), ("The folder of iobench", __file__)]
    places += [("TMPDIR", os.environ.get("TMPDIR", "")), *(("An argument", argument) for argument in arguments)]
    for what, name in places:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadInputError(
                f"{what} is not UTF-8: {shown(os.fsencode(name))}. Results could not tell of it.",
                "mv OLD NEW, with a NEW of UTF-8",
            ) from None


def told(error: Exception) -> int:
    """Say what ended a command, and what to do about it; returns the exit code."""
    if isinstance(error, BadInputError):
        what, next_step = str(error), error.next_step
    else:
        where, what = _keep_traceback(error), type(error).__name__ + (f": {error}" if str(error) else "")
        what = f"iobench itself failed, which says nothing of what is measured: {what.rstrip('.')}. {where}"
        next_step = "report it as an issue of the project that you have iobench from, with the traceback"
    complain(f"error:{NO_BREAK}{what}")  # a path may be as long as a line
    print(plain(f"next: {next_step}"), file=sys.stderr, flush=True)
    return BAD_INPUT


def _keep_traceback(error: Exception) -> str:
    """Print the traceback, where that was asked for, else write it to a file; returns a sentence that says where."""
    import tempfile  # noqa: PLC0415
    import traceback  # noqa: PLC0415

    text = "".join(traceback.format_exception(error))
    if not os.environ.get(DEBUG):
        try:
            with tempfile.NamedTemporaryFile(
                "w", prefix="iobench-error-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
            ) as file:
                file.write(f"{sys.argv}\n{sys.version}\n\n{text}")
            return f"The traceback is in {file.name}; with --debug (iobench --debug COMMAND ...) it is printed."
        except OSError:
            pass  # then it is printed
    print(text, file=sys.stderr)
    return "The traceback is above."
