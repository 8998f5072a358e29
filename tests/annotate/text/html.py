"""HTML as a reader sees it."""

from html.parser import HTMLParser


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(html: str) -> str:
    """Return the text of a fragment of HTML."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    return parser.text
