"""Functions in a process of their own: their results and errors come back, and its death is an error."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from vidrd_core.io.decoded import VideoError
from vidrd_core.io.isolated import CrashError, Isolated
from vidrd_core.video.film import film_of, film_stream


@pytest.fixture
def isolated():
    found = Isolated()
    yield found
    found.close()


def test_results_and_errors_come_back(isolated, tmp_path, monkeypatch):
    assert (isolated(np.multiply, np.arange(4), 2) == [0, 2, 4, 6]).all()
    assert isolated(os.getpid) == isolated(os.getpid) != os.getpid()
    monkeypatch.chdir(tmp_path)
    assert isolated(os.getcwd) == os.getcwd()
    assert isolated(print, "not an answer") is None
    assert isolated(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
    with pytest.raises(VideoError, match="has no video"):
        isolated(film_stream, SimpleNamespace(streams=SimpleNamespace(video=[])))
    with pytest.raises(RuntimeError):
        isolated(threading.Lock)  # which cannot be sent
    assert isolated(abs, -7) == 7


@pytest.mark.parametrize(
    ("how", "argument", "message"),
    [(os._exit, 3, "exit code 3"), (signal.raise_signal, getattr(signal, "SIGKILL", 0), "signal SIGKILL")],
)
def test_a_death_is_an_error_and_the_next_call_has_another_process(isolated, how, argument, message):
    if argument == 0:
        pytest.skip("there are no such signals")
    before = isolated(os.getpid)
    with pytest.raises(CrashError, match=rf"ends the process that reads it \({message}\)"):
        isolated(how, argument)
    assert isolated(os.getpid) != before


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends processes there")
def test_the_process_ends_with_its_user(isolated):
    number = isolated(os.getpid)
    isolated.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_an_error_that_cannot_be_made_again_is_told_in_words(isolated):
    with pytest.raises(RuntimeError, match="UnicodeTranslateError: why"):
        isolated(eval, "(_ for _ in ()).throw(type('UnicodeTranslateError', (Exception,), {})('why'))")


def test_nothing_is_imported_from_the_current_folder(isolated, tmp_path, monkeypatch):
    for name in ("pickle", "struct", "av", "vidrd_core/__init__"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(f"open({os.fspath(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as of an interactive Python
    with pytest.raises(FileNotFoundError):
        isolated(film_of, tmp_path / "film.mp4")
    assert not (tmp_path / "ran").exists()


def test_what_the_program_itself_defines_can_be_called(tmp_path):
    (tmp_path / "program.py").write_text(
        "from vidrd_core.io.isolated import Isolated\n"
        "def double(value):\n    return 2 * value\n"
        "if __name__ == '__main__':\n    print(Isolated()(double, 21), Isolated()(double, 'ab'))\n"
    )
    command = [sys.executable, str(tmp_path / "program.py")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout, done.stderr) == ("42 abab\n", "")
