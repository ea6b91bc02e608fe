"""Results do not depend on where parts are processed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from vidrd_core.data.executors import InProcess, Processes, in_order


def test_results_come_in_the_order_of_their_parts():
    parts = [range(10_000_000), range(2), range(5_000_000), range(3)]  # the first takes longest
    for executor in (InProcess(), Processes(2)):
        assert list(in_order(executor, sum, parts)) == [49999995000000, 1, 12499997500000, 3]
    assert list(in_order(Processes(2), sum, [])) == []


def work_long(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    code = "import sys; from tests.core.data.test_executors import Processes, work_long\n"
    code += "if __name__ == '__main__': list(Processes(2).map(work_long, sys.argv[1:] * 2))"
    starter = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=Path(__file__).parents[3])
    while len(workers := [int(path.name) for path in tmp_path.iterdir()]) < 2:
        assert starter.poll() is None
        time.sleep(0.1)
    starter.kill()
    starter.wait()
    there = [psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)]
    assert not psutil.wait_procs(there, timeout=20)[1]
