"""Text that people, files and models wrote, on every page, in a real browser: nothing runs, nothing is fetched."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

from tests.security import site as sites
from tests.security.addresses import addresses
from tests.security.conftest import Tally

KIND = "stored payloads x pages, in a browser"
# Each would set `window.attacked`, open a dialog, or call another host, if it were taken for markup or code.
PAYLOADS = [
    "<script>attacked=1</script>",
    "<img src=x onerror=attacked=1>",
    '"><svg onload=attacked=1>',
    "'-alert(1)-'",
    "javascript:alert(1)",
    "[x](javascript:alert(1))",
    "![x](//evil.example/a.png)",
    "</textarea><script>alert(1)</script>",
    "{{7*7}}{% debug %}",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "</title><script>alert(1)</script>",
    "<a href=//evil.example>",
    '" onfocus=alert(1) autofocus x="',
    "<style>@import '//evil.example/x.css'</style>",
    "<form action=//evil.example>",
    "<base href=//evil.example>",
    "<math><mtext><script>alert(1)</script>",
    "<div hx-get=//evil.example hx-trigger=load>",
    "<meta http-equiv=refresh content='0;//evil.example'>",
    "```\n</code><script>alert(1)</script>",
]
AT_ONCE = 4  # in one text: most fields hold that much
QUERIES = ("", "?q={0}&next={0}&view={0}&state={0}&policy={0}")


class Watch:
    """Hears what a page must never do."""

    def __init__(self, page: Page, home: str) -> None:
        self.home, self.heard = home, list[str]()
        page.on("dialog", lambda dialog: (self.heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", self._console)
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.heard.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.heard.append(f"request: {request.url}")


def pages(site: sites.Site, person: str) -> list[str]:
    """Return the addresses that show this person a page."""
    client, found = site.browser(person, glances=True), []
    for address in addresses():
        answer = client.get(path := address.path(site.ours.values))
        if answer.status_code in (200, 404) and answer["Content-Type"].startswith("text/html"):
            found.append(path)
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", range(0, len(PAYLOADS), AT_ONCE))
def test_nothing_stored_runs_on_any_page(
    tally: Tally, open_context: Callable[..., BrowserContext], live_server, start: int
) -> None:
    site = sites.build("\n".join(PAYLOADS[start : start + AT_ONCE]))
    seen = 0
    for person, queries in (("our admin", QUERIES), ("our annotator", QUERIES[:1])):
        page = open_context(site.people[person]).new_page()
        watch = Watch(page, live_server.url)
        for path in pages(site, person):
            for query in queries:
                page.goto(path + query.format(PAYLOADS[start]), wait_until="load")
                is_calm = page.evaluate("() => window.attacked === undefined") and not watch.heard
                tally.refuse(is_calm, (person, path, query, watch.heard))
                seen += 1
    assert seen > 60
