"""Answers that grow while the engine's own child writes them."""

from typing import Any

import psutil
import pytest

from tests.training.using.slow_writer import working
from tests.waiting import wait_for
from training.models import Answer
from training.usage import trials
from training.usage.warm_engine import engine

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
        assert trials.cancel(slow_trial)
    assert answer().state == Answer.State.CANCELLED
    assert answer().text.startswith(before)


def test_a_killed_child_leaves_what_was_written_and_a_sentence(slow_trial: Any) -> None:
    with working(slow_trial) as answer:
        before = wait_for(lambda: answer().text)
        psutil.Process(engine.child.pid).kill()
        wait_for(lambda: not answer().is_live)
        assert answer().state == Answer.State.FAILED
    assert answer().text.startswith(before)
    assert answer().error.startswith("The engine ended without a word")
