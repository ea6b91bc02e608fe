"""Parts of a benchmark in processes of their own, so that none inherits what another has in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def in_a_process(script: str, *arguments: Any) -> Any:
    """What a script run with these arguments prints last, a line of JSON. Raises SystemExit if it fails."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command[1:])} failed")
    return json.loads(done.stdout.splitlines()[-1])
