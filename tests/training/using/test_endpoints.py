"""Endpoints as policies that write: allowed hosts, kept answers, busy servers, and rounds with two writers."""

import json
import threading
from collections import Counter
from typing import Any

import pytest
from django.conf import settings as site

from annotate.errors import RefusalError
from annotate.models import Comparison, Completion, Policy, Prompt, TrailEntry
from tests.training.using.conftest import KEY
from tests.training.using.openai_server import completion
from training.endpoints.addresses import find_place
from training.endpoints.client import Server
from training.endpoints.errors import EndpointError
from training.models import Round
from training.rounds import deciding, runner, state_machine

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("_broker")]


@pytest.fixture
def _broker(sent: Any) -> None:
    pass


def add_prompts(project: Any, *contents: Any) -> None:
    for content in contents:
        prompt = Prompt(project=project)
        prompt.set_content(content)
        prompt.save()


def work(round_: Round) -> Round:
    claimed = state_machine.claim_round(round_.pk, "worker")
    assert claimed is not None
    runner.run(claimed)
    return Round.objects.get(pk=round_.pk)


@pytest.mark.parametrize(
    ("url", "allowed", "is_taken"),
    [
        ("https://api.example.com/v1", ["api.example.com"], True),
        ("https://api.example.com/v1", [], False),
        ("http://api.example.com/v1", ["api.example.com"], False),
        ("https://api.example.com:8443/v1", ["api.example.com"], False),
        ("http://10.0.0.5:8000/v1", ["10.0.0.5:8000"], True),
        ("http://10.0.0.5:8001/v1", ["10.0.0.5:8000"], False),
        ("https://me@api.example.com/v1", ["api.example.com"], False),
        ("https://api.example.com/v1?key=1", ["api.example.com"], False),
        ("file:///etc/passwd", ["api.example.com"], False),
        ("https://api.example.com:x/v1", ["api.example.com"], False),
    ],
)
def test_only_hosts_of_the_site_are_asked(
    settings: Any, url: str, allowed: list[str], is_taken: bool
) -> None:
    settings.ENDPOINTS = allowed
    if is_taken:
        assert find_place(url).path == "/v1"
        return
    with pytest.raises(RefusalError) as refused:
        find_place(url)
    assert refused.value.field == "url"


def test_a_host_of_the_own_network_needs_its_port(settings: Any) -> None:
    settings.ENDPOINTS = ["localhost"]
    with pytest.raises(RefusalError, match="not on the public network"):
        find_place("https://localhost/v1").connect_to()


def test_a_round_keeps_what_came_and_goes_on(
    project: Any, owner: Any, make_endpoint: Any, server: Any
) -> None:
    """Busy answers are retried, a refused prompt is left out, and a failed round asks only for what is missing."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}]
    add_prompts(project, "Plain text goes on", chat, "Refuse me", "Fail at first")
    seen: Counter[str] = Counter()
    asked_all = threading.Event()  # for the chat, of which every answer must be kept

    def rule(path: str, body: dict[str, Any]) -> Any:
        text = str(body.get("prompt", body.get("messages")))
        seen[text] += 1
        if "Refuse" in text:
            return 400, {"error": {"message": "Not this one."}}, {}
        if "sky" in text:
            if seen[text] == 3:
                asked_all.set()
            return (429, {}, {"Retry-After": "0"}) if seen[text] == 1 else None
        if "Fail" in text and seen["allowed"] == 0:
            asked_all.wait(20)
            return 401, {}, {}
        return None

    server.rules.append(rule)
    policy = make_endpoint(temperature=0.5, max_new_tokens=7)
    round_ = work(state_machine.write(project, owner, 4, policy=policy))
    assert round_.state == "failed"
    assert "does not take this site’s key" in round_.reason
    seen["allowed"] = 1
    before = len(server.asked)
    state_machine.resume(round_, owner)
    round_ = work(round_)
    assert round_.state == "written", round_.reason
    assert not [body for _p, body, _k in server.asked[before:] if "Why is the sky" in str(body)]
    written = Completion.objects.filter(policy=policy)
    assert written.count() == 6
    assert round_.summary["passed_over"] == {"refused": 1}
    assert "Not this one." in str(round_.summary["sample"]["events"])
    one = written.filter(prompt__content="Plain text goes on").first()
    assert (one.finish_reason, one.token_ids, one.sampling["model"]) == ("stop", None, "acme-1")
    assert one.sampling["max_new_tokens"] == 7
    assert len(set(written.values_list("seed", flat=True))) == 6
    paths = {path for path, body, _key in server.asked if "prompt" in body}
    assert paths == {"/v1/completions"}
    [(path, body, key)] = [one for one in server.asked if "sky" in str(one[1])][:1]
    assert (path, key) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert body["messages"] == chat
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("acme-1", 0.5, 7)
    assert server.most_at_once <= site.ENDPOINT_REQUESTS


def test_a_round_keeps_calls_of_tools(project: Any, owner: Any, make_endpoint: Any, server: Any) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    prompt = Prompt(project=project)
    prompt.set_content([{"role": "user", "content": "Look it up."}], tools)
    prompt.save()
    calls = [{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
    said = {"role": "assistant", "content": None, "tool_calls": calls}
    replies = [{"choices": [{"message": said, "finish_reason": "tool_calls"}]}, completion("I will not.")]
    server.rules.append(lambda _path, _body: (200, replies.pop(), {}))
    round_ = work(state_machine.write(project, owner, 1, policy=make_endpoint()))
    assert round_.state == "written", round_.reason
    assert {body["tools"][0]["function"]["name"] for _path, body, _key in server.asked} == {"look_up"}
    comparison = Comparison.objects.get(project=project)
    found = [comparison.first, comparison.second]
    assert sorted((one.messages for one in found), key=bool) == [None, [said]]
    assert all("messages" not in one.sampling and one.text for one in found)


def test_two_policies_write_a_side_each(project: Any, owner: Any, make_endpoint: Any, server: Any) -> None:
    add_prompts(project, "One begins", "Two begins")
    first, second = make_endpoint("acme"), make_endpoint("other")
    project.training_settings = {"reference": "starter"}  # which means nothing to them
    project.save()
    round_ = work(state_machine.write(project, owner, 2, policy=first, against=second))
    assert round_.state == "written", round_.reason
    made = Comparison.objects.filter(project=project)
    assert made.count() == 2
    for comparison in made:
        assert {comparison.first.policy, comparison.second.policy} == {first, second}
    assert list(round_.fresh.all()) == list(made)


def test_an_endpoint_is_never_trained(project: Any, owner: Any, make_endpoint: Any, client_for: Any) -> None:
    policy = make_endpoint()
    Policy.objects.filter(pk=policy.pk).update(kind="external")
    with pytest.raises(RefusalError, match="never was current"):
        deciding.roll_back(project, policy, owner)
    project.current_policy = policy
    project.save()
    with pytest.raises(RefusalError, match="no weights of it to train"):
        state_machine.start(project, owner)
    page = client_for(owner).get(f"/p/reviews/policies/{policy.pk}/").content.decode()
    assert "cannot be trained, nor be the reference" in " ".join(page.split())


def test_the_key_is_in_no_row(project: Any, owner: Any, make_endpoint: Any, client_for: Any) -> None:
    policy = make_endpoint()
    stored = json.dumps(list(TrailEntry.objects.values("target", "details")))
    stored += json.dumps(list(type(policy.endpoint).objects.values()))
    page = client_for(owner).get(f"/p/reviews/policies/{policy.pk}/").content.decode()
    assert KEY not in stored + page
    assert "ACME_KEY" not in stored + page


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((404, {"error": {"message": "No such model"}}, {}), "status 404: No such model"),
        ((503, b"busy", {"Retry-After": "30"}), "stayed busy until the deadline"),
        ((200, b"<html>", {}), "not that of OpenAI"),
        ((200, {"choices": [{"message": {"content": ["x"]}}]}, {}), "not that of OpenAI"),
        ((302, b"", {"Location": "http://169.254.169.254/"}), "status 302"),
    ],
)
def test_what_goes_wrong_is_a_sentence(server: Any, reply: Any, says: str) -> None:
    server.rules.append(lambda _path, _body: reply)
    with pytest.raises(EndpointError, match=says):
        Server(f"http://{server.host}/v1", "acme-1").write(
            "x", {"seed": 1}, seconds=5, stop=threading.Event()
        )


def test_newer_names_of_settings_are_understood(server: Any) -> None:
    def rule(_path: str, body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            return 400, {"error": {"message": "Use 'max_completion_tokens' instead."}}, {}
        return 200, completion("cut", "length"), {}

    server.rules.append(rule)
    chat = [{"role": "user", "content": "x"}]
    asked = Server(f"http://{server.host}/v1", "acme-1")
    found = asked.write(chat, {"seed": 1, "max_new_tokens": 3}, seconds=5, stop=threading.Event())
    assert found == {"text": "cut", "finish_reason": "length", "model": "acme-1"}
    assert server.asked[-1][1]["max_completion_tokens"] == 3
