"""The list of prompts: found, seen, withdrawn and put back."""

import pytest

from annotate.imports import records, writing
from annotate.models import Prompt
from annotate.reports import prompt_figures, search
from primitives.statistics import Share
from tests.factories import compare, judge_all

URL = "/p/reviews/prompts/"


@pytest.fixture
def prompts(project):
    rows = [
        {"prompt": "Alpha", "id": "a-1", "metadata": {"source": "web"}},
        {"prompt": [{"role": "user", "content": "Beta ü"}]},
        {"prompt": "Gamma", "completion_a": "x", "completion_b": "y"},
    ]
    writing.write(project, [(1, records.parse(row)) for row in rows], "import 7")
    return list(Prompt.objects.order_by("pk"))


def texts(page):
    return [prompt.text for prompt in page.context["page"].rows]


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 200), ("teammate", 403), ("outsider", 404), (None, 302)],
)
def test_readers_see_prompts_and_admins_change_them(request, prompts, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get(URL).status_code == status
    changed = client.post(f"{URL}{prompts[0].pk}/change/", {"action": "withdraw"})
    expected = {"owner": 302, "researcher": 403}.get(who, status)
    assert changed.status_code == expected
    prompts[0].refresh_from_db()
    assert (prompts[0].withdrawn_at is not None) == (who == "owner")


def test_prompts_are_listed_with_what_is_known_of_them(prompts, owner, client_for):
    page = client_for(owner).get(URL)
    assert texts(page) == ["Gamma", "Beta ü", "Alpha"]
    for said in ("a-1", "source: web", "import 7", f"?prompt={prompts[2].pk}"):
        assert said in page.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=alph", ["Alpha"]),
        ("q=ü", ["Beta ü"]),
        ("q=a-1", ["Alpha"]),
        ("state=unused", ["Beta ü"]),
        ("state=withdrawn", ["Alpha"]),
        ("state=in_use", ["Gamma", "Beta ü"]),
        ("batch=import 7", ["Gamma", "Beta ü", "Alpha"]),
        ("held_out=yes", []),
    ],
)
def test_each_filter_narrows_the_list(prompts, owner, client_for, query, found):
    assert prompts[0].withdraw()
    assert texts(client_for(owner).get(f"{URL}?{query}")) == found


def test_a_prompt_is_withdrawn_and_put_back(prompts, owner, client_for):
    client = client_for(owner)
    address = f"{URL}{prompts[0].pk}/change/"
    page = client.post(address, {"action": "withdraw", "query": "q=Alpha"}, follow=True)
    assert (page.redirect_chain[0][0], texts(page)) == (f"{URL}?q=Alpha", ["Alpha"])
    assert b"no round writes for it" in page.content
    page = client.post(address, {"action": "restore", "query": "//evil.example/?a"}, follow=True)
    assert page.redirect_chain[0][0].startswith(f"{URL}?")
    assert Prompt.objects.in_use().count() == 3


def test_another_projects_prompt_cannot_be_changed(prompts, make_member, client_for):
    from annotate.models import Project

    stranger = make_member("sam", "admin", in_project=Project.objects.create(slug="other", name="Other"))
    address = f"/p/other/prompts/{prompts[0].pk}/change/"
    assert client_for(stranger).post(address, {"action": "withdraw"}).status_code == 404


def test_prompts_come_a_page_at_a_time(prompts, owner, client_for, monkeypatch):
    monkeypatch.setattr(search, "PAGE", 2)
    client = client_for(owner)
    page = client.get(URL)
    assert texts(page) == ["Gamma", "Beta ü"]
    assert texts(client.get(f"{URL}?{page.context['older']}")) == ["Alpha"]


def test_comparisons_are_found_by_their_prompt_id_or_batch(prompts, owner, client_for):
    client = client_for(owner)
    for query, count in (
        (f"prompt={prompts[2].pk}", 1),
        (f"prompt={prompts[0].pk}", 0),
        ("batch=import 7", 1),
    ):
        page = client.get(f"/p/reviews/comparisons/?{query}")
        assert len(page.context["page"].rows) == count


@pytest.mark.parametrize(
    "query",
    ["state=x", "batch=import 8", "held_out=x", "verdict=tie", "has=x", "order=x", "order=ties&least=0"],
)
def test_an_unknown_filter_or_value_is_refused(prompts, owner, client_for, query):
    page = client_for(owner).get(f"{URL}?{query}")
    assert (page.status_code, texts(page)) == (422, [])


def test_an_unused_prompt_is_corrected_as_a_new_one(project, prompts, owner, client_for):
    client = client_for(owner)
    address = f"{URL}{prompts[0].pk}/correct/"
    assert "Alpha" in client.get(address).content.decode()
    said = client.post(address, {"content": "Alpha, corrected\r\n"}, follow=True).content.decode()
    new = Prompt.objects.latest("pk")
    assert f"Stored as prompt #{new.pk}" in said
    assert (new.content, new.external_id, new.metadata) == ("Alpha, corrected\n", "a-1", {"source": "web"})
    assert new.batch == "import 7"  # it leaves with its import
    prompts[0].refresh_from_db()
    assert (prompts[0].content, prompts[0].withdrawn_at is None) == ("Alpha", False)
    chat = f"{URL}{prompts[1].pk}/correct/"
    assert client.post(chat, {"content": '[{"role": "user", "content": "Beta"}]'}).status_code == 302
    assert Prompt.objects.latest("pk").content == [{"role": "user", "content": "Beta"}]


@pytest.mark.parametrize(
    ("number", "content", "says"),
    [
        (0, " ", "is empty"),
        (0, "Gamma", "says this already"),
        (1, "[", "JSON"),
        (1, '{"role": "user"}', "list of messages"),
        (1, '[{"role": "nobody", "content": "x"}]', "one of the roles"),
        (2, "Delta", "It has completions"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(prompts, owner, client_for, number, content, says):
    page = client_for(owner).post(f"{URL}{prompts[number].pk}/correct/", {"content": content})
    assert (page.status_code, says in page.content.decode()) == (422, True)
    assert Prompt.objects.count() == 3


def test_a_prompt_that_is_used_is_not_offered_for_correction(prompts, owner, client_for):
    client = client_for(owner)
    page = client.get(f"{URL}{prompts[2].pk}/correct/", follow=True)
    assert page.redirect_chain == [(f"{URL}{prompts[2].pk}/", 302)]
    assert "It has completions" in page.content.decode()


def test_a_prompt_is_held_out_until_it_is_used(project, prompts, owner, client_for):
    client = client_for(owner)
    address = f"{URL}{prompts[2].pk}/change/"
    for action, held_out in (("hold_out", True), ("give_back", False)):
        client.post(address, {"action": action})
        assert Prompt.objects.get(pk=prompts[2].pk).held_out == held_out
    prompts[2].comparisons.update(kind="gate")
    assert "stays where it is" in client.post(address, {"action": "hold_out"}, follow=True).content.decode()
    assert not Prompt.objects.get(pk=prompts[2].pk).held_out
    assert "Hold out" in client.get(URL).content.decode()


@pytest.mark.parametrize(
    ("who", "status"), [("researcher", 403), ("teammate", 403), ("outsider", 404), (None, 302)]
)
def test_only_admins_correct_prompts(request, prompts, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    for method in (client.get, client.post):
        assert method(f"{URL}{prompts[0].pk}/correct/", {"content": "x"}).status_code == status
    assert Prompt.objects.count() == 3


@pytest.fixture
def judged(project, make_member):
    """Return two prompts: annotators skip and flag the first one, and prefer alike on the other one."""
    bad, good = (compare(project, text, "x", "y", needed=3) for text in ("Bad one", "Good one"))
    for name in ("anna", "bela", "cleo"):
        judge_all(project, make_member(name, "annotator"), {bad.pk: "skip"}, default="first")
    bad.flags.create(annotator=project.memberships.latest("pk").user, note="It makes no sense.")
    return bad.prompt, good.prompt


def test_the_list_says_what_was_said_of_each_prompt(judged, researcher, client_for):
    page = " ".join(client_for(researcher).get(URL).content.decode().split())
    for said, times in (("3 judgments", 2), ("3 skipped", 1), ("1 open flag", 1)):
        assert page.count(f"<li> {said}") == times


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("has=skips", ["Bad one"]),
        ("has=flags", ["Bad one"]),
        ("has=ties", []),
        ("order=skips", ["Bad one"]),
        ("order=skips&least=10", []),
        ("order=skips&least=1", ["Bad one"]),
        ("order=skips&q=Good", []),
        ("order=flags", ["Bad one"]),
    ],
)
def test_bad_prompts_are_found(judged, owner, client_for, query, found):
    assert texts(client_for(owner).get(f"{URL}?{query}")) == found


def test_an_order_says_that_a_ranking_is_not_finished(judged, owner, client_for, monkeypatch):
    monkeypatch.setattr(prompt_figures, "FIRST_WINDOW", 1)
    monkeypatch.setattr(search, "RANKING_SECONDS", -1)
    client = client_for(owner)
    page = client.get(f"{URL}?order=skips")
    assert (texts(page), page.context["page"].cut) == ([], True)
    assert "Look further back" in page.content.decode()
    assert texts(client.get(f"{URL}?{page.context['older']}")) == ["Bad one"]
    good = judged[1]
    good.comparisons.get().flags.create(annotator=owner)
    page = client.get(f"{URL}?order=flags")
    assert texts(page) == ["Good one"]
    assert f"Only prompts #{good.pk} and newer were ranked" in " ".join(page.content.decode().split())


@pytest.mark.parametrize("order", ["skips", "disagreement"])
def test_an_order_without_prompts_offers_fewer_judgments(project, make_member, owner, client_for, order):
    """In a project of the default settings a prompt has one or two judgments."""
    once = compare(project, "Once", "x", "y")
    twice = compare(project, "Twice", "x", "y", needed=2)
    for name, what in (("anna", "first"), ("bela", "second")):
        judge_all(project, make_member(name, "annotator"), {once.pk: "skip", twice.pk: what})
    client = client_for(owner)
    page = client.get(f"{URL}?order={order}&q=ce")
    assert texts(page) == []
    said = " ".join(page.content.decode().split())
    assert "Only prompts with 3 judgments or more are ranked" in said
    assert f'href="?order={order}&amp;q=ce&amp;least=1"' in said
    assert "No prompt of this project matches" not in said
    assert texts(client.get(f"{URL}?order={order}&q=ce&least=1"))


def test_the_judgments_that_an_order_needs_are_in_sight(prompts, owner, client_for):
    client = client_for(owner)
    for query, is_open in (("", False), ("?has=ties", False), ("?order=ties", True), ("?order=flags", False)):
        page = client.get(f"{URL}{query}").content.decode()
        assert ('<details class="advanced" open>' in page) == is_open, query


def test_a_ranking_that_goes_on_says_what_it_leaves_out(judged, owner, client_for):
    bad, good = judged
    client = client_for(owner)
    page = " ".join(client.get(f"{URL}?order=skips&before={good.pk}").content.decode().split())
    assert f"Only prompts older than #{good.pk} are ranked here." in page
    assert "From the start" in page
    assert "> Newest <" not in page
    for query in ("order=skips&", "order=flags&", "q=Bad&", ""):
        page = " ".join(client.get(f"{URL}?{query}before={bad.pk}").content.decode().split())
        assert "of this project matches" not in page
        assert "No prompts yet" not in page
        assert f"older than #{bad.pk}" in page


def test_a_ranking_leaves_withdrawn_prompts_out_unless_asked(judged, owner, client_for):
    client = client_for(owner)
    client.post(f"{URL}{judged[0].pk}/change/", {"action": "withdraw"})
    assert texts(client.get(f"{URL}?order=skips")) == []
    assert texts(client.get(f"{URL}?order=skips&state=withdrawn")) == ["Bad one"]
    assert texts(client.get(f"{URL}?has=skips")) == ["Bad one"]


def test_a_correction_sent_to_its_old_address_is_stored(prompts, owner, client_for):
    """Its form was open while the site was upgraded."""
    said = client_for(owner).post(f"{URL}{prompts[0].pk}/", {"content": "Alpha, corrected"}, follow=True)
    assert said.redirect_chain[0] == (f"{URL}{prompts[0].pk}/correct/", 307)
    assert Prompt.objects.latest("pk").content == "Alpha, corrected"


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 200), ("teammate", 403), ("outsider", 404), (None, 302)],
)
def test_only_readers_see_what_was_said_of_a_prompt(request, judged, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    answer = client.get(f"{URL}{judged[0].pk}/")
    assert answer.status_code == status
    assert ("Skipped" in answer.content.decode()) == (status == 200)


def test_a_prompts_page_shows_its_comparisons(judged, owner, client_for):
    page = client_for(owner).get(f"{URL}{judged[0].pk}/")
    assert [one.prompt_id for one in page.context["comparisons"]] == [judged[0].pk]
    assert page.context["figures"][1][1] == Share(3, 3)
    assert client_for(owner).get(f"{URL}{10**9}/").status_code == 404


def test_a_change_on_a_prompts_page_leads_back_to_it(judged, owner, client_for):
    address = f"{URL}{judged[0].pk}/"
    page = client_for(owner).post(f"{address}change/", {"action": "withdraw", "back": "prompt"}, follow=True)
    assert page.redirect_chain == [(address, 302)]


def test_prompts_that_annotators_dispute_are_found(judged, make_member, project, owner, client_for):
    disputed = compare(project, "Disputed", "x", "y", needed=2)
    for name, what in (("dora", "first"), ("emil", "second")):
        judge_all(project, make_member(name, "annotator"), {disputed.pk: what}, default="skip")
    assert texts(client_for(owner).get(f"{URL}?has=disagreement")) == ["Disputed"]
    assert texts(client_for(owner).get(f"{URL}?order=disagreement&least=1")) == ["Disputed"]
