"""Answers that grow while the engine's own child, or an endpoint, writes them."""

import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from django.db import OperationalError, connection

from annotate.errors import RefusalError
from tests.training.using.openai_server import event, part, stream
from tests.training.using.slow_writer import working
from tests.waiting import wait_for
from training.engine.config import TrainConfig
from training.models import Answer
from training.rounds import child_process
from training.usage import trials, warm_engine
from training.usage.warm_engine import WarmEngine, engine

pytestmark = pytest.mark.once


def test_the_text_grows_into_the_answer(slow_trial: Any) -> None:
    texts: list[str] = []
    with working(slow_trial) as answer:

        def is_done() -> bool:
            now = answer()
            if now.text not in texts:
                texts.append(now.text)
            return not now.is_live

        wait_for(is_done)
        assert answer().state == Answer.State.DONE
    written = answer()
    assert len(texts) > 2
    assert all(written.text.startswith(one) for one in texts)
    assert 0 < written.seconds_to_words < written.seconds


def test_a_stop_keeps_what_was_written(slow_trial: Any) -> None:
    with working(slow_trial) as answer:
        before = wait_for(lambda: answer().text)
        assert slow_trial.answers.cancel()
    assert answer().state == Answer.State.CANCELLED
    assert answer().text.startswith(before)


def answer_briefly(trial: Any) -> tuple[Any, set[str]]:
    """Try the same with few tokens. Return the answer, and the phases that were seen."""
    [policy] = [one.policy for one in trial.answers.all()]
    short = {"max_new_tokens": 2, "temperature": 0}
    following = trials.request(trial.project, trial.created_by, "A quiet", [policy], short)
    phases: set[str] = set()
    with working(following) as answer:

        def is_done() -> bool:
            phases.add(answer().phase)
            return not answer().is_live

        wait_for(is_done)
    return answer(), phases


def test_a_stop_keeps_the_child_warm(slow_trial: Any) -> None:
    with working(slow_trial) as answer:
        wait_for(lambda: answer().text)
        child = engine.child.pid
        assert slow_trial.answers.cancel()
    following, phases = answer_briefly(slow_trial)
    assert following.state == Answer.State.DONE
    assert engine.child.pid == child
    assert "loading" not in phases


def test_an_answer_that_takes_too_long_keeps_the_child(slow_trial: Any, monkeypatch: Any) -> None:
    assert answer_briefly(slow_trial)[0].state == Answer.State.DONE
    child = engine.child.pid
    monkeypatch.setattr(trials, "SECONDS", 0)
    with working(slow_trial) as answer:
        wait_for(lambda: not answer().is_live)
    assert answer().error == "The answer took too long. Ask for fewer tokens."
    assert engine.child.pid == child


def test_the_engine_is_told_of_tools(slow_trial: Any) -> None:
    [policy] = [one.policy for one in slow_trial.answers.all()]
    chat, lengths = [{"role": "user", "content": "A quiet"}], []
    for tools in (None, [{"name": "look_up"}]):
        settings = {"max_new_tokens": 1, "temperature": 0}
        trial = trials.request(
            slow_trial.project, slow_trial.created_by, chat, [policy], settings, tools=tools
        )
        trials.answer(str(trial.pk), "worker")
        lengths.append(len(trial.answers.get().sample["prompt_token_ids"]))
    assert lengths[0] < lengths[1]


def test_a_child_that_hears_no_stop_is_ended(slow_trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_engine, "STOP_SECONDS", 0.5)
    monkeypatch.setattr(child_process, "GRACE_SECONDS", 0.5)
    with working(slow_trial) as answer:
        before = wait_for(lambda: answer().text)
        child = psutil.Process(engine.child.pid)
        child.suspend()
        assert slow_trial.answers.cancel()
    assert not child.is_running()
    assert engine.child is None
    assert answer().text.startswith(before)


def test_a_killed_child_leaves_what_was_written_and_a_sentence(slow_trial: Any) -> None:
    with working(slow_trial) as answer:
        before = wait_for(lambda: answer().text)
        psutil.Process(engine.child.pid).kill()
        wait_for(lambda: not answer().is_live)
        assert answer().state == Answer.State.FAILED
    assert answer().text.startswith(before)
    assert answer().error.startswith("The engine ended without a word")


@pytest.fixture
def endpoint_trial(transactional_db: None, project: Any, owner: Any, make_endpoint: Any, sent: Any) -> Any:
    chat = [{"role": "user", "content": "Why?"}]
    return trials.request(project, owner, chat, [make_endpoint()], {"max_new_tokens": 9, "seed": 1})


def test_the_text_of_an_endpoint_grows_into_the_answer(endpoint_trial: Any, server: Any) -> None:
    is_seen = threading.Event()

    def parts() -> Iterator[bytes]:
        yield part("So ")
        assert is_seen.wait(20)
        yield part("it goes", "length")
        yield event(b"[DONE]")

    server.rules.append(lambda _path, _body: stream(parts()))
    with working(endpoint_trial) as answer:
        wait_for(lambda: answer().text == "So ")
        assert answer().state == Answer.State.RUNNING
        is_seen.set()
        wait_for(lambda: not answer().is_live)
        assert answer().state == Answer.State.DONE
    assert (answer().text, answer().finish_reason) == ("So it goes", "length")
    assert answer().sample["sampling"]["model"] == "acme-1"
    assert answer().seconds_to_words < answer().seconds


def test_an_endpoint_that_fails_midway_leaves_its_text(endpoint_trial: Any, server: Any) -> None:
    parts = [part("Half a "), part("sent"), event({"error": {"message": "Out of memory"}})]
    server.rules.append(lambda _path, _body: stream(parts))
    with working(endpoint_trial) as answer:
        wait_for(lambda: not answer().is_live)
    assert (answer().state, answer().text) == (Answer.State.FAILED, "Half a sent")
    assert answer().error == "The endpoint ended the answer with an error: Out of memory"


def test_a_stop_leaves_an_endpoint_that_says_nothing(endpoint_trial: Any, server: Any) -> None:
    is_over = threading.Event()

    def parts() -> Iterator[bytes]:
        yield part("So ")
        is_over.wait(60)

    server.rules.append(lambda _path, _body: stream(parts()))
    with working(endpoint_trial) as answer:
        wait_for(lambda: answer().text == "So ")
        assert endpoint_trial.answers.cancel()
    assert not is_over.is_set()  # the worker did not wait for it
    is_over.set()
    assert (answer().state, answer().text) == (Answer.State.CANCELLED, "So ")


def test_a_storage_that_refuses_an_answer_is_told(endpoint_trial: Any, caplog: Any) -> None:
    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and Answer.State.DONE in (params or ()):
            raise OperationalError("disk I/O error")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        trials.answer(str(endpoint_trial.pk), "worker")
    one = endpoint_trial.answers.get()
    assert one.state == Answer.State.FAILED
    assert one.error == "Something went wrong on the server, and it was written to its log."
    assert "disk I/O error" in caplog.text


def test_a_prompt_that_no_line_holds_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_engine, "LONGEST_REQUEST", 10_000)
    fresh = WarmEngine()
    with pytest.raises(RefusalError, match="prompt is too long") as refused:
        fresh.write(TrainConfig(base_model="x"), "\N{SNOWMAN}" * 2_000, lambda *_: True, 5)
    assert (refused.value.field, fresh.child) == ("prompt", None)
