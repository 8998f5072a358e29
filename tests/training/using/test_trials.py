"""Prompts that are tried: answered side by side, waited for honestly, kept for a day, and added where they are good."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.models import Comparison, Completion, Prompt
from annotate.text import rendering
from tests.training.pages import FRAGMENT
from tests.training.using.openai_server import completion
from training.models import Answer, Trial
from training.usage import trials
from training.usage.warm_engine import engine

pytestmark = pytest.mark.once

FORM = {"kind": "chat", "text": "Why?", "max_new_tokens": 9, "temperature": 0.5, "top_p": 1, "seed": 3}


@pytest.fixture
def pair(make_endpoint: Any, sent: Any) -> list[Any]:
    return [make_endpoint("acme"), make_endpoint("other")]


@pytest.fixture
def ask(
    pair: list[Any], project: Any, owner: Any, client_for: Any, django_capture_on_commit_callbacks: Any
) -> Any:
    """ask(text="…"): what the form answers, and the newest trial."""
    client = client_for(owner)

    def ask(**changes: Any) -> tuple[Any, Any]:
        form = FORM | {"policies": [one.pk for one in pair]} | changes
        with django_capture_on_commit_callbacks(execute=True):
            answer = client.post(reverse("try-policy", args=["reviews", pair[0].pk]), form)
        return answer, Trial.objects.first()

    return ask


def flat(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_answers_come_side_by_side_and_can_be_kept(
    ask: Any, project: Any, owner: Any, researcher: Any, client_for: Any, server: Any, sent: Any
) -> None:
    server.rules.append(
        lambda _path, body: (
            (200, completion(f"<script>{body['seed']}</script> **so**"), {})
            if body["messages"][-1]["content"] == "Why?"
            else None
        )
    )
    answer, trial = ask(system="Be brief.")
    assert answer.status_code == 302
    assert sent == [(trials.TASK, [str(trial.pk)])]
    page, client = reverse("trial", args=["reviews", trial.pk]), client_for(owner)
    waiting = flat(client.get(page))
    assert "No worker is running. Your prompt is kept until one is." in waiting
    assert 'hx-trigger="every 700ms"' in waiting
    trials.answer(str(trial.pk), "worker")
    trials.answer(str(trial.pk), "another worker")  # finds nothing to do
    assert len(server.asked) == 2
    shown = flat(client.get(page, headers=FRAGMENT))
    assert "&lt;script&gt;3&lt;/script&gt; <strong>so</strong>" in shown
    assert "hx-trigger" not in shown
    assert client.post(page, {"action": "prompt"}).status_code == 302
    assert client_for(researcher).post(page, {"action": "prompt"}).status_code == 403
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert Prompt.objects.get(batch="tried").content == chat
    server.rules.clear()
    first, second = trial.answers.values_list("policy", flat=True)
    same = client.post(page, {"action": "comparison", "pair": f"{first}-{second}"}, follow=True)
    assert "Both answers say the same." in flat(same)
    assert not Completion.objects.exists()
    client.post(page, {"action": "reply", "policy": first, "text": "Go on"})
    following = Trial.objects.first()
    assert [turn["role"] for turn in following.content] == ["system", "user", "assistant", "user"]
    Answer.objects.filter(trial=following, policy=second).update(state="done", text="Another one.")
    trials.answer(str(following.pk), "worker")
    page = reverse("trial", args=["reviews", following.pk])
    for _twice in range(2):
        client.post(page, {"action": "comparison", "pair": f"{first}-{second}"})
    made = Comparison.objects.get(project=project)
    assert {one.text for one in (made.first, made.second)} == {"5 letters, seed 3", "Another one."}
    assert made.prompt.content == following.content


def test_a_prompt_that_cannot_be_asked_names_its_field(ask: Any, pair: list[Any], project: Any) -> None:
    third = project.policies.get(name="starter").pk
    for changes, says in {
        ("text", ""): "This field is required",
        ("text", "\n \n"): "is empty",
        ("text", "x" * 64_001): "at most 64000 characters",
        ("max_new_tokens", 5000): "less than or equal to 4096",
        ("kind", "text"): "Plain text has no system message",
        ("temperature", -1): "greater than or equal to 0",
        ("policies", ()): "This field is required",
        ("policies", ("9" * 23,)): "is not one of the available choices",
        ("prompt", "abc"): "is not one of the available choices",
        ("prompt", "9" * 5000): "is not one of the available choices",
        (
            "policies",
            (*(one.pk for one in pair), third, pair[0].pk + 99),
        ): "is not one of the available choices",
    }.items():
        answer, trial = ask(**{"system": "Be brief."} | dict([changes]))
        assert (answer.status_code, trial) == (422, None), changes
        assert says in flat(answer), changes


def test_open_prompts_are_bounded_and_can_be_stopped(ask: Any, owner: Any, client_for: Any) -> None:
    for _number in range(trials.OPEN_PER_USER):
        assert ask()[0].status_code == 302
    refused, trial = ask()
    assert refused.status_code == 422
    assert "Your other prompts are being answered" in flat(refused)
    page = reverse("trial", args=["reviews", trial.pk])
    stopped = flat(client_for(owner).post(page, {"action": "cancel"}, follow=True))
    assert "Stopped" in stopped
    assert ask()[0].status_code == 302
    trials.answer(str(trial.pk), "worker")
    assert set(trial.answers.values_list("state", flat=True)) == {"cancelled"}


def test_open_prompts_of_a_project_are_bounded(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "OPEN_PER_PROJECT", 1)
    assert ask()[0].status_code == 302
    refused, _trial = ask()
    assert refused.status_code == 422
    assert "Many prompts of this project are being answered" in flat(refused)


def test_a_lost_prompt_is_sent_again_and_an_old_one_goes(
    ask: Any, sent: Any, owner: Any, client_for: Any
) -> None:
    _answer, trial = ask()
    page = reverse("trial", args=["reviews", trial.pk])
    long_ago = timezone.now() - timedelta(hours=1)
    Trial.objects.update(sent_at=long_ago)
    client_for(owner).get(page)
    assert len(sent) == 2
    Answer.objects.filter(position=0).update(state="running", heard_at=long_ago, attempt=1)
    trials.look_after_all()  # the page need not be open
    assert trial.answers.get(position=0).state == "queued"
    assert len(sent) == 3
    Trial.objects.update(created_at=timezone.now() - trials.KEPT - timedelta(minutes=1))
    trials.sweep()
    assert not Answer.objects.exists()


def test_it_says_that_a_worker_is_training(
    ask: Any, project: Any, worker: Any, owner: Any, client_for: Any
) -> None:
    round_ = project.rounds.create(
        number=4, state="training", trains=False, start_policy=project.current_policy, folder="runs/busy"
    )
    _answer, trial = ask()
    page = reverse("trial", args=["reviews", trial.pk])
    assert "A worker is busy with round 4 (Training); your prompt waits." in flat(client_for(owner).get(page))
    type(round_).objects.update(state="cancelled")
    assert "A worker will take it in a moment." in flat(client_for(owner).get(page))


def test_the_text_so_far_is_shown_as_a_whole_answer_is(
    ask: Any, pair: list[Any], owner: Any, client_for: Any
) -> None:
    _answer, trial = ask()
    page, client = reverse("trial", args=["reviews", trial.pk]), client_for(owner)
    began = timezone.now() - timedelta(seconds=3)
    Answer.objects.filter(position=0).update(
        state="running",
        attempt=1,
        started_at=began,
        words_at=began + timedelta(seconds=2),
        heard_at=timezone.now(),
        phase="writing",
        share=0.25,
        text="**so** <script>alert(1)</script> [x](javascript:alert(1))\n```js\nlet a",
    )
    whole, part = flat(client.get(page)), client.get(page, headers=FRAGMENT)
    for shown in (whole, flat(part)):
        assert "<strong>so</strong> &lt;script&gt;" in shown
        assert "javascript:alert(1)&quot;" not in shown
        assert 'href="javascript' not in shown
        assert "first words after 2.0 s" in shown
        assert 'value="0.25"' in shown
    assert "<noscript>" in whole
    assert "Stop" not in flat(part)  # the button is not replaced under the user's finger
    assert "HX-Retarget" not in part.headers
    client.post(page, {"action": "cancel"})
    ended = client.get(page, headers=FRAGMENT)
    assert ended.headers["HX-Retarget"] == "#trial"
    assert "It was stopped. This is what it had written." in flat(ended)
    assert "<strong>so</strong>" in flat(ended)


def test_a_lost_worker_leaves_what_was_written_and_a_sentence(
    ask: Any, sent: Any, owner: Any, client_for: Any
) -> None:
    _answer, trial = ask()
    page, client = reverse("trial", args=["reviews", trial.pk]), client_for(owner)
    long_ago = timezone.now() - timedelta(hours=1)
    lost = Answer.objects.filter(position=0)
    lost.update(state="running", heard_at=long_ago, attempt=1, text="Half a sent")
    shown = flat(client.get(page))
    assert "Half a sent" in shown
    assert "The worker that wrote this is gone. The answer is written again from its beginning." in shown
    lost.update(state="running", heard_at=long_ago, attempt=trials.ATTEMPTS)
    shown = flat(client.get(page))
    assert "It was begun several times, and never ended. This is what it had written." in shown
    assert "Half a sent" in shown


def test_the_text_so_far_is_written_only_when_it_has_changed(ask: Any, settings: Any) -> None:
    _answer, trial = ask()
    one = trial.answers.first()
    Answer.objects.filter(pk=one.pk).update(state="running", attempt=1)
    one.refresh_from_db()
    tell, began = trials.report_to(one), None
    for share, text, is_written in (
        (0.1, "So", True),
        (0.2, "So", False),
        (0.3, " \n", False),
        (0.4, "So it", True),
    ):
        with CaptureQueriesContext(connection) as asked:
            assert tell("writing", share, text)
        updates = [query["sql"] for query in asked if query["sql"].startswith("UPDATE")]
        assert ['"text" =' in sql for sql in updates] == [is_written]
        one.refresh_from_db()
        assert (one.share, one.text) == (share, "So it" if share > 0.3 else "So")
        began = one.words_at if is_written and text == "So" else began
        assert one.words_at == began  # when its first words came
    whole = "x" * trials.LONGEST_DRAFT
    assert tell("writing", 0.5, whole)
    with CaptureQueriesContext(connection) as asked:
        assert tell("writing", 0.6, whole + "more")
    assert not any('"text" =' in query["sql"] for query in asked)


def test_a_draft_takes_no_room_in_the_cache_of_texts(ask: Any, owner: Any, client_for: Any) -> None:
    _answer, trial = ask()
    page, client = reverse("trial", args=["reviews", trial.pk]), client_for(owner)
    Answer.objects.update(state="running", attempt=1, heard_at=timezone.now(), text="Half **a** sent")
    client.get(page)
    used = rendering.CACHE.used
    Answer.objects.update(text="Half **a** sentence")
    assert "<strong>a</strong> sentence" in flat(client.get(page, headers=FRAGMENT))
    assert rendering.CACHE.used == used


def test_an_answer_is_stored_without_what_no_database_holds(ask: Any, server: Any) -> None:
    server.rules.append(lambda _path, _body: (200, completion("a\0b\ud83d") | {"model": "m\0"}, {}))
    _answer, trial = ask()
    trials.answer(str(trial.pk), "worker")
    one = trial.answers.first()
    assert (one.state, one.text, one.sample["sampling"]["model"]) == (Answer.State.DONE, "ab?", "m")


@pytest.mark.parametrize(
    ("said", "text", "tokens", "logprob"), [("a\0b", "ab", None, None), ("ab", "ab", [5, 7], -1.0)]
)
def test_an_answer_has_the_tokens_of_its_text_or_none(
    ask: Any, said: str, text: str, tokens: list[int] | None, logprob: float | None
) -> None:
    sample = {"id": "1", "index": 0, "completion": said, "token_ids": [5, 7], "prompt_token_ids": [1]}
    sample |= {"logprob": -1.0, "finish_reason": "stop", "seed": 3}
    _answer, trial = ask()
    one = trial.answers.first()
    trials._take(one, "worker")
    trials._keep(one, sample)  # as the engine gives it
    one.refresh_from_db()
    assert (one.text, one.sample["token_ids"], one.sample["logprob"]) == (text, tokens, logprob)
    assert one.sample["prompt_token_ids"] == [1]


def test_a_prompt_with_tools_is_tried_with_them(
    ask: Any, pair: list[Any], project: Any, owner: Any, client_for: Any, server: Any
) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    prompt = Prompt(project=project)
    prompt.set_content([{"role": "user", "content": "Look it up."}], tools)
    prompt.save()
    client = client_for(owner)
    form = client.get(reverse("try-policy", args=["reviews", pair[0].pk]), {"prompt": prompt.pk})
    assert "look_up" in flat(form)
    _answer, trial = ask(prompt=prompt.pk)
    trials.answer(str(trial.pk), "worker")
    page = reverse("trial", args=["reviews", trial.pk])
    assert "look_up" in flat(client.get(page))
    client.post(page, {"action": "prompt"})
    assert list(project.prompts.all()) == [prompt]
    client.post(page, {"action": "again"})
    trials.answer(str(Trial.objects.first().pk), "worker")
    client.post(page, {"action": "reply", "policy": pair[0].pk, "text": "Go on"})
    trials.answer(str(Trial.objects.first().pk), "worker")
    assert [(body["tools"], body["seed"]) for _path, body, _key in server.asked] == [
        (tools, seed) for seed in (3, 3, 4, 4, 3, 3)
    ]


def test_a_call_of_a_tool_is_kept_as_a_message(
    ask: Any, pair: list[Any], owner: Any, client_for: Any, server: Any
) -> None:
    function = {"name": "look_up", "arguments": '{"of": "Bonn"}'}
    said = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    replies = [{"choices": [{"message": said, "finish_reason": "tool_calls"}]}, completion("It is.")]
    server.rules.append(lambda _path, _body: (200, replies.pop(0), {}) if replies else None)
    _answer, trial = ask()
    trials.answer(str(trial.pk), "worker")
    page, client = reverse("trial", args=["reviews", trial.pk]), client_for(owner)
    assert "look_up" in flat(client.get(page))
    first, second = (one.pk for one in pair)
    client.post(page, {"action": "comparison", "pair": f"{first}-{second}"})
    made = Comparison.objects.get()
    assert {one.policy_id: one.messages for one in (made.first, made.second)} == {first: [said], second: None}
    client.post(page, {"action": "reply", "policy": first, "text": "Go on"})
    assert Trial.objects.first().content[1:] == [said, {"role": "user", "content": "Go on"}]


def test_errors_of_the_engine_name_no_folder(
    project: Any, owner: Any, researcher: Any, client_for: Any, sent: Any, settings: Any, tmp_path: Path
) -> None:
    model = tmp_path / "our models" / "deep"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    settings.BASE_MODELS = [str(tmp_path)]
    policy = project.policies.create(name="deep", kind="base", base_model=str(model))
    trial = trials.request(project, owner, "Why?", [policy], {"max_new_tokens": 2})
    try:
        trials.answer(str(trial.pk), "worker")
    finally:
        engine.close()
    one = trial.answers.get()
    assert one.state == Answer.State.FAILED
    assert "base_model deep " in one.error
    page = flat(client_for(researcher).get(reverse("trial", args=["reviews", trial.pk])))
    assert str(tmp_path) not in page
