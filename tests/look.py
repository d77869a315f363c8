"""Look at the status page in a real browser: `python -m tests.look [FOLDER]`.

Every page in every state, light and dark, on a phone and on a desk: checked with axe-core (WCAG 2.2
AA and its best practices), for what does not fit, and for what the policy forbids; a screenshot of
each in FOLDER (.bench/look). Then what the script does. Needs chromium, node and npm, which brings
axe-core and playwright-core. Ends with 1 where something was found.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

from aiohttp import web

from control.status.states import Status
from service.statuspage import press, subscribing, templates
from tests.stack import ROOT
from tests.status_states import every_page, front, subscription_pages
from tests.statuses import FakeBoard, component, incident, view

TOOLS = ("axe-core@4", "playwright-core@1")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCRIPT = Path(__file__).with_name("look.mjs")
MODULES = ROOT / ".bench" / "browser"


async def looked(folder: Path, browser: str) -> list[dict[str, object]]:
    """What was found on each page."""
    pages = every_page() | subscription_pages()
    runner, url = await _serving(pages)
    try:
        plan = {
            "url": url, "names": list(pages), "folder": str(folder), "modules": str(MODULES),
            "chromium": browser, "live": True,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "node", str(SCRIPT), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(json.dumps(plan).encode())
        found = [json.loads(line) for line in out.splitlines()]
        if process.returncode != 0:
            found.append({"name": "the browser", "problems": [f"ended with {process.returncode}"]})
        return found
    finally:
        await runner.cleanup()


async def _serving(pages: dict[str, str]) -> tuple[web.AppRunner, str]:
    """The pages, as the service sends them; ``live`` has other news each time."""
    well = view()
    on_fire = view([component("API", Status.MAJOR_OUTAGE)], incidents=(incident("x", "critical"),))
    news = iter([front(FakeBoard(well)), front(FakeBoard(on_fire))])

    async def page(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        text = next(news, None) if name == "live" else pages.get(name)
        if text is None:
            return web.Response(status=503 if name == "live" else 404)
        asks = name.startswith("subscribe")
        policy = subscribing.POLICY if asks else templates.policy()
        made = press.printed(text, "text/html; charset=utf-8", policy=policy)
        return made.to(request)

    app = web.Application()
    app.router.add_get("/{name}", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}"


def main() -> int:
    """Look, and say what was found; the exit status."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or not shutil.which("node") or not shutil.which("npm"):
        print("this needs chromium, node and npm", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".bench" / "look"
    folder.mkdir(parents=True, exist_ok=True)
    MODULES.mkdir(parents=True, exist_ok=True)
    install = ("npm", "install", "--silent", "--no-save", "--prefix", str(MODULES), *TOOLS)
    subprocess.run(install, check=True)
    found = asyncio.run(looked(folder, browser))
    bad = [each for each in found if each["problems"]]
    for each in bad:
        print(json.dumps(each, indent=2))
    print(f"{len(found)} looks, {len(bad)} with problems; screenshots are in {folder}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
