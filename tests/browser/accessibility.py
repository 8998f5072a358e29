"""Violations that axe-core finds on a page, and buttons that do nothing."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# A button sends a form, unless a script or htmx does something with it.
DEAD_BUTTONS = """() => [...document.querySelectorAll("button")]
  .filter(button => button.type === "submit" && !button.form && !button.closest("[hx-post]"))
  .map(button => button.outerHTML)"""


def violations(page: Page, **options: Any) -> list[str]:
    """Return the violations of WCAG and of axe-core's best practices. `runOnly` names rules or groups of them."""
    found = Axe().run(page, options=options).response["violations"]
    dead = [f"{page.url}: a button that sends nothing: {html}" for html in page.evaluate(DEAD_BUTTONS)]
    return dead + [
        f"{page.url}: {rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]
    ]
