"""Functions in a process of their own, which may die of what it is given, as decoders do of damaged files."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import spawn
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
LENGTH = struct.Struct("<Q")  # of a message, before it
PACKAGES = str(Path(__file__).resolve().parents[2])  # where this package is
# Python would import from the current folder, which may be a stranger's, as from any other.
START = "import sys; sys.path[:1] == [''] and sys.path.pop(0); from vidrd_core.io.isolated import serve; serve()"


class CrashError(ValueError):
    """A process died of a file; the message goes on from the file's name."""


class Isolated:
    """Calls functions in another process, which lasts from call to call and is replaced after it died.

    Functions are named by their modules, so that they are no lambdas; arguments and results are copied.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # the process that started it: a fork of that one needs another
        self._lock = threading.Lock()

    def __call__(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """Call a function there.

        Args:
            function: The function.
            *arguments: Its arguments.
            **named: More of them, by name.

        Returns:
            Its result.

        Raises:
            CrashError: The process died.
            Exception: What the function raises.
        """
        data = pickle.dumps((function, arguments, named))
        call = pickle.dumps((os.getcwd(), _main() if b"__main__" in data else {}, data))
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _send(process.stdin, call)
                answer = _message(process.stdout)
            except (EOFError, OSError, ValueError) as error:
                self._process = None
                process.kill()
                raise CrashError(f"ends the process that reads it ({_how(process.wait())})") from error
            except BaseException:  # Ctrl-C: the answer that is still to come is nobody's
                self._process = None
                process.kill()
                raise
        returned, found = pickle.loads(answer)
        if not returned:
            raise found
        return found

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), PACKAGES])}
            command = [sys.executable, "-c", START]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            self._owner = os.getpid()
            atexit.unregister(self.close)
            atexit.register(self.close)
        return self._process


reading = Isolated()
"""The process in which this one has foreign films and pictures read."""


def _main() -> dict[str, str]:
    """Where the program is that this process runs, for functions and classes that it defines itself."""
    found = spawn.get_preparation_data("")
    return {name: value for name, value in found.items() if name.startswith("init_main")}


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _send(file: BinaryIO | Any, data: bytes) -> None:
    file.write(LENGTH.pack(len(data)))
    file.write(data)
    file.flush()


def _message(file: BinaryIO | Any) -> bytes:
    """The next message, of one of this package's own processes. Raises EOFError."""
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    data: bytes = file.read(LENGTH.unpack(head)[0])
    if len(data) < LENGTH.unpack(head)[0]:
        raise EOFError
    return data


def serve() -> None:
    """Call the functions that stdin names, until it ends: with the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for that process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    calls: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(calls,), daemon=True).start()
    while True:
        data = calls.get()
        try:
            folder, main, data = pickle.loads(data)
            os.chdir(folder)  # that of the process that calls, which may have left its first one
            spawn.prepare(main)
            function, arguments, named = pickle.loads(data)
            message = True, function(*arguments, **named)
        except Exception as error:
            message = False, error
        _send(answers, _answer(*message))


def _answer(returned: bool, found: Any) -> bytes:
    """A result or an error as a message; one that cannot be sent becomes a RuntimeError."""
    try:
        data = pickle.dumps((returned, found))
        if not returned:
            pickle.loads(data)  # some errors cannot be made again
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(found).__name__}: {found}")))
    return data


def _listen(calls: SimpleQueue[bytes]) -> None:
    """Queue the calls that stdin names; end this process with it, even while it works."""
    with suppress(EOFError, OSError):
        while True:
            calls.put(_message(sys.stdin.buffer))
    os._exit(1)
