"""A headless browser, and in it ComfyUI's own page, beside a host that runs nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ..workflows.stock import definitions
from .clip_editor import SHOWN, Editor
from .host import STATUS, Host

BROWSERS = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
READY = "window.app?.vueAppReady && window.app.graph"
COUNT_REQUESTS = """
const ask = window.fetch
window.asked = 0
window.fetch = async (...given) => {
  window.asked++
  try { return await ask(...given) } finally { window.asked-- }
}
"""
OF_THE_PAGE = "ComfyApp graph accessed before initialization"  # which 1.49 says of its own App mode at each start


class Page:
    """The page, and what went wrong in it."""

    def __init__(self, tab: Any, host: Host) -> None:
        self.tab, self.host, self.problems = tab, host, []
        tab.set_default_timeout(120_000)  # a busy machine takes its time
        tab.on("console", self.hear)
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.route(lambda url: not url.startswith(host.url), lambda route: route.fulfill(json=[]))  # the world
        tab.route_web_socket("**/ws*", lambda socket: socket.send(json.dumps(STATUS)))
        tab.add_init_script(COUNT_REQUESTS)
        tab.goto(host.url)
        tab.wait_for_function(READY)

    def hear(self, said: Any) -> None:
        """Keep what goes wrong."""
        if said.type == "error" and said.text != OF_THE_PAGE:
            self.problems.append(said.text)

    def run(self, script: str, given: Any = None) -> Any:
        """What a script gives, when the page has come to rest."""
        told = self.tab.evaluate(f"async (given) => JSON.stringify(await ({script})(given))", given)
        self.tab.wait_for_timeout(200)
        return json.loads(told)


# Not for longer than this folder's tests: playwright keeps an event loop in the thread, where others may run none.
@pytest.fixture(scope="package")
def chromium():
    """A headless browser, started once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def static():
    """The folder of the page: `COMFYUI_PAGE`, or that of the installed package."""
    if given := os.environ.get("COMFYUI_PAGE"):
        return Path(given)
    frontend = importlib.util.find_spec("comfyui_frontend_package")
    if frontend is None:
        pytest.skip("comfyui-frontend-package is not installed, and COMFYUI_PAGE names no folder")
    return Path(frontend.origin).parent / "static"


@pytest.fixture(scope="package")
def opened(chromium, static):
    """The page, opened once."""
    with Host(static, definitions(loops=False)) as host:
        yield Page(chromium.new_page(), host)
        host.shutdown()


@pytest.fixture
def page(opened):
    """The page, for a test in which nothing may go wrong."""
    opened.tab.keyboard.press("Escape")  # a dialog that another test left
    opened.problems.clear()
    yield opened
    assert opened.problems == []
    assert opened.host.unknown == []


@pytest.fixture
def editor(page):
    """A function that opens the example with other values, and the table; it is closed afterwards."""
    yield lambda **values: Editor(page, **values)
    page.tab.keyboard.press("Escape")
    assert page.run(SHOWN)["open"] == 0
