"""As much of ComfyUI's server as its page asks for: files, node definitions, and that nothing runs."""

from __future__ import annotations

import json
import mimetypes
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

mimetypes.add_type("text/javascript", ".js")  # which some systems take for text
ROOT = Path(__file__).parents[2]
PACK = "vidrd"
NOTHING = {
    **{each: [] for each in ("embeddings", "experiment/models", "userdata")},
    **{each: {} for each in ("features", "history", "internal/folder_paths", "userdata/comfy.templates.json")},
    "vidrd/states": {"states": [], "clips": []},
    "jobs": {"jobs": [], "pagination": {"offset": 0, "limit": 200, "total": 0, "has_more": False}},
}
EMPTY_FILES = ("favicon.ico", "user.css", "userdata/user.css", "view")
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Canvas.LeftMouseClickBehavior": "panning",  # which 1.27 sets before it knows them, if they are not set
    "Comfy.Canvas.MouseWheelScroll": "zoom",
}
SYSTEM = {
    "system": {"os": "linux", "comfyui_version": "0", "python_version": "3", "pytorch_version": "2", "argv": []},
    "devices": [],
}
STATUS = {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "test"}}  # by websocket


class Host(ThreadingHTTPServer):
    """Serves the page in `static`, our pack, and these node definitions, at `url`."""

    daemon_threads = True

    def __init__(self, static: Path, definitions: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.static, self.unknown = static, []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers = {
            **NOTHING,
            **blueprints(),
            "extensions": extensions(),
            "i18n": translations(),
            "object_info": definitions,
            "queue": {"queue_running": [], "queue_pending": []},
            "settings": SETTINGS,
            "system_stats": SYSTEM,
            "users": {"storage": "server", "migrated": True},
            "workflow_templates": {PACK: [path.stem for path in (ROOT / "example_workflows").glob("*.json")]},
        }
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def file(self, path: str) -> Path | None:
        """The file at a path: a script of ours, a workflow or its picture, or a part of the page."""
        places = {
            f"extensions/{PACK}/": ROOT / "web",
            f"api/workflow_templates/{PACK}/": ROOT / "example_workflows",
            "": self.static,
        }
        prefix = next(each for each in places if path.startswith(each))
        found = places[prefix] / (path.removeprefix(prefix) or "index.html")
        return found if found.is_file() else None


def extensions() -> list[str]:
    """Our scripts, which the page imports."""
    web = ROOT / "web"
    return [f"/extensions/{PACK}/{path.relative_to(web).as_posix()}" for path in sorted(web.rglob("*.js"))]


def blueprints() -> dict[str, Any]:
    """Our subgraphs: a list of them, and each whole."""
    paths = sorted((ROOT / "subgraphs").glob("*.json"))
    said = {path.stem: {"source": "custom_node", "name": path.stem, "info": {"node_pack": f"custom_nodes.{PACK}"}}
            for path in paths}  # fmt: skip
    whole = {path.stem: {**said[path.stem], "data": path.read_text(encoding="utf-8")} for path in paths}
    return {"global_subgraphs": said, **{f"global_subgraphs/{name}": each for name, each in whole.items()}}


def translations() -> dict[str, Any]:
    """Our locales by language, as the host puts their files together."""
    told: dict[str, Any] = {}
    for path in sorted((ROOT / "locales").glob("*/*.json")):
        read = json.loads(path.read_text(encoding="utf-8"))
        told.setdefault(path.parent.name, {}).update(read if path.stem == "main" else {path.stem: read})
    return told


class Handler(BaseHTTPRequestHandler):
    server: Host
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        known = path.removeprefix("api/")
        if known in self.server.answers:
            answer = self.server.answers[known]
            if isinstance(answer, bytes):
                return self.reply(answer, "image/webp")
            return self.reply(json.dumps(answer).encode(), "application/json")
        if known in EMPTY_FILES:
            return self.reply(b"", mimetypes.guess_type(known)[0])
        file = self.server.file(path)
        if file is None:
            self.server.unknown.append(self.path)
            return self.reply(b"", None, 404)
        self.reply(file.read_bytes(), mimetypes.guess_type(file.name)[0])

    def do_POST(self) -> None:
        """Take what the page would keep: its settings, and the workflows that it opens."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(b"{}", "application/json")

    def reply(self, body: bytes, kind: str | None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""
