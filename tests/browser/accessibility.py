"""Violations that axe-core finds on a page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def violations(page: Page, **options: Any) -> list[str]:
    """Return the violations of WCAG and of axe-core's best practices. `runOnly` names rules or groups of them."""
    found = Axe().run(page, options=options).response["violations"]
    return [f"{page.url}: {rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
