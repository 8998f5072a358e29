"""HTML as a reader sees it."""

from html.parser import HTMLParser


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.is_note = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.is_note = dict(attributes).get("class") == "held"

    def handle_endtag(self, tag: str) -> None:
        self.is_note = False

    def handle_data(self, data: str) -> None:
        if not self.is_note:
            self.text += data


def text_of(html: str) -> str:
    """Return the text of a fragment of HTML, without the page's own words on images that are not shown."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    return parser.text
