"""Makes docs/_static/flow.png, the four steps from "Salary" to the salary: `python -m tests.e2e.flow_picture`."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize

from tests.e2e.demo import ROOT, Demo, running_demo
from tests.e2e.windows import Phone, Window, running_browser

PICTURE = ROOT / "docs" / "_static" / "flow.png"
SCALE = 1.25
SCREEN: ViewportSize = {"width": 790, "height": 574}
HANDSET: ViewportSize = {"width": 360, "height": 560}

PAGE = """<!doctype html>
<style>
  * {{ box-sizing: border-box }}
  body {{ margin: 0; padding: 28px; width: 1520px; background: #dfe9ed; color: #172530;
         font: 500 23px/1.3 "DejaVu Sans", sans-serif }}
  ol {{ display: grid; grid-template-columns: 1fr 1fr; gap: 28px 36px; margin: 0; padding: 0; list-style: none }}
  p {{ display: flex; align-items: center; gap: 12px; margin: 0 0 12px; min-height: 38px }}
  b {{ flex: none; width: 38px; height: 38px; border-radius: 50%; background: #12365a; color: #fff; font-size: 20px;
      line-height: 38px; text-align: center }}
  div {{ height: 520px; border-radius: 14px; text-align: center; overflow: hidden }}
  .screen {{ border: 1px solid #b4c4cd; box-shadow: 0 8px 24px rgb(18 54 90 / 14%); background: #fff }}
  .phone img {{ margin-top: 4px; border: 9px solid #172530; border-radius: 30px; width: 345px; height: 508px }}
  .screen img {{ display: block; width: 100% }}
</style>
<ol>{steps}</ol>
"""
STEP = '<li><p><b>{number}</b>{caption}</p><div class="{kind}"><img src="data:image/png;base64,{image}"></div></li>'


def main() -> None:
    """Live the scenario once, and put the pictures of it together."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_demo(Path(directory)) as demo,
        running_browser() as browser,
    ):
        steps = [
            STEP.format(number=number, caption=caption, kind=kind, image=base64.b64encode(image).decode("ascii"))
            for number, (caption, kind, image) in enumerate(live(browser, demo), start=1)
        ]
        page = browser.new_page(viewport={"width": 1520, "height": 600})
        page.set_content(PAGE.format(steps="".join(steps)))
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURE, full_page=True)


def live(browser: Browser, demo: Demo) -> list[tuple[str, str, bytes]]:
    """The steps: what happens, on what kind of device, and what it looks like."""
    window, phone = Window(browser, demo, scale=SCALE), Phone(browser, demo, scale=SCALE)
    window.page.set_viewport_size(SCREEN)
    phone.page.set_viewport_size(HANDSET)
    window.sign_in("anna")
    start = window.page.screenshot()
    window.open("salary/")
    number = window.ask_phone()
    asked = window.page.screenshot()
    phone.look("anna")
    phone.page.get_by_role("radio", name=number, exact=True).check()
    phone.page.get_by_role("button", name="Approve").hover()
    confirmed = phone.page.screenshot()
    phone.page.get_by_role("button", name="Approve").click()
    window.expect_page("salary/", "Your salary")
    return [
        ("A password is enough, until Anna opens Salary", "screen", start),
        ("The OpenID Provider wants a second factor", "screen", asked),
        ("She approves it on her phone", "phone", confirmed),
        ("And is back where she wanted to go", "screen", window.page.screenshot()),
    ]


if __name__ == "__main__":
    main()
