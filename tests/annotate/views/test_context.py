"""Metadata beside a prompt, images from allowed hosts, and lists that find rows by metadata."""

from typing import Any

import pytest
from django.test import Client

from annotate.models import Comparison, Project
from tests.factories import compare

pytestmark = pytest.mark.once  # forms and pages, whatever the database

IMAGE = "![a map](https://maps.example/a.png)"


@pytest.fixture
def shown(project: Project) -> Comparison:
    """Return a comparison with metadata of three kinds, of which the project shows two."""
    project.visible_metadata = ["reference", "source", "absent"]
    project.save()
    comparison = compare(project, "Where is it?", f"There: {IMAGE}", "Nowhere.")
    comparison.prompt.metadata = {
        "writer": "model-7b",
        "source": {"page": 3},
        "reference": "The *north*.\n\n![](https://maps.example/b.png)",
    }
    comparison.prompt.save()
    return comparison


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "fragment"])
def test_the_desk_shows_the_metadata_that_the_project_names(
    shown: Comparison, teammate: Any, client_for: Any, headers: dict[str, str]
) -> None:
    html = client_for(teammate).get("/p/reviews/judge/", headers=headers).content.decode()
    assert "<em>north</em>" in html
    assert "{&quot;page&quot;: 3}" in html
    assert html.index("reference") < html.index("source")
    assert "writer" not in html
    assert "model-7b" not in html


def test_a_claim_holds_the_metadata_that_the_project_names(
    shown: Comparison, teammate: Any, client_for: Any
) -> None:
    answer = client_for(teammate).post("/api/v1/projects/reviews/next/").json()
    assert list(answer["claim"]["metadata"]) == ["reference", "source"]
    assert answer["claim"]["metadata"]["source"] == {"page": 3}


def test_metadata_of_the_comparison_is_shown_too(shown: Comparison, teammate: Any, client_for: Any) -> None:
    Comparison.objects.update(metadata={"source": "the web", "gold": "secret"})
    html = client_for(teammate).get("/p/reviews/judge/").content.decode()
    assert "<em>north</em>" in html
    assert "the web" in html
    assert "secret" not in html
    answer = client_for(teammate).post("/api/v1/projects/reviews/next/").json()
    assert list(answer["claim"]["metadata"]) == ["reference", "source"]
    assert answer["claim"]["metadata"]["source"] == "the web"


def test_an_admin_sees_all_metadata_of_a_comparison(shown: Comparison, owner: Any, client_for: Any) -> None:
    html = client_for(owner).get(f"/p/reviews/comparisons/{shown.pk}/").content.decode()
    for word in ("writer", "model-7b", "source", "reference", "<em>north</em>"):
        assert word in html


def test_hostile_metadata_is_text(project: Project, shown: Comparison, owner: Any, client_for: Any) -> None:
    hostile = "<script>alert(1)</script>"
    shown.prompt.metadata = {hostile: hostile, "list": [hostile]}
    shown.prompt.save()
    html = client_for(owner).get(f"/p/reviews/comparisons/{shown.pk}/").content.decode()
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(1)") == 3


def policy_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.headers["Content-Security-Policy"]


def test_images_are_loaded_from_allowed_hosts_alone(
    project: Project, shown: Comparison, teammate: Any, client_for: Any
) -> None:
    client = client_for(teammate)
    assert "maps.example" not in policy_of(client, "/p/reviews/judge/")
    assert "<img" not in client.get("/p/reviews/judge/").content.decode()
    project.image_hosts = ["maps.example"]
    project.save()
    assert "img-src 'self' data: https://maps.example;" in policy_of(client, "/p/reviews/judge/")
    assert '<img src="https://maps.example/a.png"' in client.get("/p/reviews/judge/").content.decode()
    for elsewhere in ("/", "/keys/"):
        assert "maps.example" not in policy_of(client, elsewhere)


@pytest.mark.parametrize(
    "host",
    ["https://maps.example", "maps.example/", "*", "*.example", "maps.example; script-src *", "localhost",
     "a b.example", "maps.example:port", "-maps.example", "map's.example"],
)  # fmt: skip
def test_what_is_not_a_host_is_refused(project: Project, owner: Any, client_for: Any, host: str) -> None:
    client = client_for(owner)
    page = client.get("/p/reviews/settings/")
    given = {name: value for name, value in page.context["form"].initial.items() if value is not None}
    lists = {name: "" for name, value in given.items() if isinstance(value, list)}
    objects = {name: "{}" for name, value in given.items() if isinstance(value, dict)}
    for hosts, status in ((f"ok.example\n{host}", 200), ("Ok.Example\nmaps.example:8443", 302)):
        answer = client.post("/p/reviews/settings/", given | lists | objects | {"image_hosts": hosts})
        project.refresh_from_db()
        assert answer.status_code in (status, 422 if status == 200 else status)
        folded = answer.content.decode().partition("What is shown")[0].rpartition("<details")[2]
        assert status == 302 or " open>" in folded  # an error is in sight
        assert project.image_hosts == ([] if status == 200 else ["ok.example", "maps.example:8443"])
    project.image_hosts = []


@pytest.mark.parametrize("path", ["prompts/", "comparisons/", "comparisons/{}/"])
def test_no_list_prints_the_base64_of_an_image(
    project: Project, owner: Any, client_for: Any, path: str
) -> None:
    image = "data:image/png;base64," + "QUJD" * 200
    made = compare(project, f"{image} shows what?", image, "Nothing.")
    made.prompt.metadata = {"picture": image}
    made.prompt.save()
    html = client_for(owner).get(f"/p/reviews/{path.format(made.pk)}").content.decode()
    assert "data:image/png;base64," in html
    assert "QUJDQUJD" not in html


# --- Finding by context ------------------------------------------------------------------------------------------


@pytest.fixture
def told(project: Project) -> dict[str, Comparison]:
    """Return comparisons with metadata of their prompts and of their own, by name."""
    made = {name: compare(project, f"{name}?", f"{name} a", f"{name} b") for name in ("one", "two", "three")}
    metadata = {"one": {"lang": "de", "level": 3}, "two": {"lang": "fr", "checked": True}, "three": {}}
    for name, comparison in made.items():
        comparison.prompt.metadata = metadata[name]
        comparison.prompt.save()
    made["three"].metadata = {"lang": "de", "note": 'a "quoted" größe', "a.b__c": "x"}
    made["three"].save()
    return made


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("lang=de", ["one", "three"]),
        ("lang = fr", ["two"]),
        ("lang", ["one", "two", "three"]),
        ("level=3", ["one"]),
        ("level=4", []),
        ("checked=true", ["two"]),
        ("a.b__c=x", ["three"]),
        ('note=a "quoted" größe', ["three"]),
        ("absent=", []),
        ("=", []),
        ("lang=d", []),
    ],
)
def test_comparisons_are_found_by_metadata(
    told: dict[str, Comparison], owner: Any, client_for: Any, asked: str, names: list[str]
) -> None:
    page = client_for(owner).get("/p/reviews/comparisons/", {"metadata": asked})
    assert {row.pk for row in page.context["page"].rows} == {told[name].pk for name in names}


def test_prompts_are_found_by_metadata(told: dict[str, Comparison], owner: Any, client_for: Any) -> None:
    client = client_for(owner)
    page = client.get("/p/reviews/prompts/", {"metadata": "lang=de"})
    assert [row.pk for row in page.context["page"].rows] == [told["one"].prompt_id]


@pytest.mark.parametrize(("asked", "names"), [("größe", ["three"]), ("fr", ["two"]), ("nothing", [])])
def test_a_search_finds_words_of_metadata(
    told: dict[str, Comparison], owner: Any, client_for: Any, asked: str, names: list[str]
) -> None:
    page = client_for(owner).get("/p/reviews/comparisons/", {"q": asked})
    assert {row.pk for row in page.context["page"].rows} == {told[name].pk for name in names}
