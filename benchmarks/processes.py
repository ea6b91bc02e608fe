"""Run parts of a benchmark in separate processes, so that memory of one does not count for another."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def in_a_process(script: str, *arguments: Any) -> Any:
    """Run a script in a new process.

    Args:
        script: Its file.
        *arguments: Its arguments, converted to text.

    Returns:
        The value of the last line that it prints, which is JSON.

    Raises:
        SystemExit: The script failed.
    """
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command[1:])} failed")
    return json.loads(done.stdout.splitlines()[-1])
