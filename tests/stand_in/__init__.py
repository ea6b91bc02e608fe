"""The definitions of our nodes without ComfyUI, by a small stand-in for it.

It runs in a process of its own: no other process can import the stand-in.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any


@cache
def describe(*arguments: str) -> dict[str, Any]:
    """The output of `define.py` with these arguments."""
    script = Path(__file__).parent / "define.py"
    ended = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout)


def definitions() -> dict[str, Any]:
    """The definitions of our nodes by id, as in /object_info."""
    return describe()["definitions"]
