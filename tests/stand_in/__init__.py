"""What the page is told of our nodes, by a small stand-in of ComfyUI.

It runs in a process of its own, which alone can import it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any


@cache
def told(*arguments: str) -> dict[str, Any]:
    """What `define.py` prints with these arguments."""
    script = Path(__file__).parent / "define.py"
    ended = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout)


def definitions() -> dict[str, Any]:
    """Our nodes by id, as /object_info has them."""
    return told()["definitions"]
