"""Images in texts: verified, named by their host, and never a wall of base64."""

import base64
import io
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from annotate.templatetags.whetstone import excerpt
from annotate.text import images, rendering
from annotate.text.differences import mark_differences
from annotate.text.rendering import DISPLAY_LIMIT, render_markdown, render_raw
from tests.annotate.text.html import text_of

SVG = (
    "data:image/svg+xml;base64," + base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 3).decode()
)


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), colour: str = "red") -> bytes:
    file = io.BytesIO()
    with Image.new("RGB", size, colour) as image:
        image.save(file, kind)
    return file.getvalue()


def address(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def base64_runs(html: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9+/]{60,}", text_of(html))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("text", ["![a chart]({})", "See {} and say", "- {}", "| a |\n|---|\n| ![]({}) |"])
def test_a_picture_is_shown_with_its_size_and_source(kind: str, text: str) -> None:
    source = address(picture(kind), kind.lower())
    html = render_markdown(text.format(source))
    assert f'<img src="{source}" width="40" height="30" alt="">' in html
    assert not base64_runs(html)
    for part in text.split("{}"):
        assert all(word in text_of(html) for word in re.findall("[a-z]+", part))


@pytest.mark.parametrize(
    "view", [render_markdown, render_raw, lambda text: mark_differences(text, "other").html[0]]
)
@pytest.mark.parametrize("text", ["![x]({})", "{}", "```\n{}\n```", "`{}`", "```python\n{}\n```", "$a {} b$"])
@pytest.mark.parametrize(
    "source", [address(picture(size=(400, 300))), SVG, SVG.replace("image/svg+xml", "text/html")]
)
def test_base64_is_never_printed(view, text: str, source: str) -> None:
    assert not base64_runs(view(text.format(source)))


@pytest.mark.parametrize(
    "source",
    [
        SVG,
        SVG.replace("svg+xml", "png"),
        address(b"<script>alert(1)</script>" * 5),
        address(picture()[:-20]),
        address(picture()).replace("image/png", "text/html"),
        address(b"GIF89a" + b"\xff" * 60, "gif"),
    ],
    ids=["svg", "svg called png", "html", "cut", "called a page", "bomb"],
)
def test_what_is_not_a_picture_is_named_alone(source: str) -> None:
    html = render_markdown(f"![x]({source})")
    assert "<img" not in html
    assert source.partition(",")[0] in text_of(html)


def test_a_picture_too_large_to_decode_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PIXEL_LIMIT", 1_000)
    assert "<img" not in render_markdown(f"![x]({address(picture())})")
    monkeypatch.setattr(images, "PIXEL_LIMIT", 2_000)
    monkeypatch.setattr(images, "PAYLOAD_LIMIT", 100)
    assert "<img" not in render_markdown(f"![y]({address(picture())})")


def test_a_huge_canvas_costs_no_memory() -> None:
    header = bytearray(picture("GIF"))
    header[6:10] = b"\xff\xff\xff\xff"  # 65,535 x 65,535 pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert images.read_picture(base64.b64encode(bytes(header)).decode()) is None


def test_an_excerpt_names_an_image_and_goes_on() -> None:
    text = f"What is ![this]({address(picture(size=(200, 200)))}) of?"
    assert excerpt(text, 100) == "What is ![this](data:image/png;base64,…) of?"
    assert excerpt(text, 12) == "What is ![t…"


def test_two_pictures_that_differ_look_different_everywhere() -> None:
    one, other = (f"`{address(picture(colour=colour))}`" for colour in ("red", "blue"))
    for view in (render_markdown, render_raw):
        assert text_of(view(one)) != text_of(view(other))
    marked = mark_differences(one, other).html
    assert "<mark " in marked[0]
    assert "<mark " in marked[1]


def test_a_picture_takes_no_room_from_the_text_around_it() -> None:
    source = address(picture() + b"\0" * DISPLAY_LIMIT)
    text = f"![x]({source}) and what follows it"
    assert rendering.cut(text) == (text, False)
    room = rendering.Room()
    assert (room.take(text), room.is_exceeded) == (text, False)
    assert "and what follows it" in text_of(render_markdown(text))
    assert text_of(render_markdown(text + "x" * DISPLAY_LIMIT)).count("x") < DISPLAY_LIMIT


@given(
    st.lists(
        st.sampled_from(["data:image/png;base64,", "a" * 31, "0" * 32, "f" * 40, "=", "-", " ", ";", "Z/+"])
    )
)
def test_folding_keeps_every_character(pieces: list[str]) -> None:
    text = "".join(pieces)
    folded, payloads = images.fold(text)
    assert images.unfold(folded, payloads) == text
    assert all(digest in folded for digest in payloads)


def test_a_digest_that_a_model_wrote_shows_no_other_picture() -> None:
    source = address(picture())
    [digest] = images.fold(source)[1]
    forged = f"data:image/png;base64,{digest}"
    assert render_markdown(f"{source}\n\n![x]({forged})").count("<img") == 1


# --- Remote images -----------------------------------------------------------------------------------------------


def test_a_remote_image_is_named_and_not_loaded() -> None:
    html = render_markdown("![a *cat*](https://evil.example/p.png)")
    assert "<img" not in html
    assert "Image from evil.example, not loaded" in html
    assert text_of(html).strip() == "![a *cat*](https://evil.example/p.png)"


@pytest.mark.parametrize(
    ("source", "is_loaded"),
    [
        ("https://images.example/p.png", True),
        ("https://images.example:8443/p.png", False),
        ("http://images.example/p.png", False),
        ("https://images.example.evil/p.png", False),
        ("https://images.example@evil.example/p.png", False),
        ("//images.example/p.png", False),
        ("p.png", False),
        ("https://[::1", False),
    ],
)
def test_only_an_allowed_host_is_asked(source: str, is_loaded: bool) -> None:
    html = render_markdown(f"![x]({source})", ["images.example"])
    assert ("<img" in html) is is_loaded
    if is_loaded:
        assert 'referrerpolicy="no-referrer"' in html
    assert "<img" not in render_markdown(f"![x]({source})")
