"""A chat template that asks for the date is told the same day for as long as a run lasts."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.engine.chat_templates import ASKED
from tests.engine.conftest import CHAT_TEMPLATE, EOS, make_tokenizer
from training.engine.config import TrainConfig
from training.engine.data.tokens import Encoder
from training.engine.errors import ConfigError, StaleCheckpointError
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.sample import sample
from training.engine.train import train

DATED = "Today is {{ strftime_now('%d %b %Y') }}.\n" + CHAT_TEMPLATE
LINES = [
    {"id": n, "prompt": ASKED, "chosen": f"good {n}", "rejected": f"bad {n}", "chosen_finish_reason": "stop"}
    for n in range(6)
]


def test_a_template_is_told_the_day_of_the_run() -> None:
    using = Encoder(
        make_tokenizer(),
        eos_ids=frozenset({1}),
        vocab_size=320,
        max_length=128,
        chat_template=DATED,
        template_date="2026-01-02",
    )
    assert using.chats.render(ASKED).startswith("Today is 02 Jan 2026.")


@pytest.mark.parametrize("day", ["today", "2026-13-01", "20260102"])
def test_a_day_that_is_none_is_refused(day: str) -> None:
    with pytest.raises(ConfigError, match="template_date must be a day such as 2026-11-27, not "):
        TrainConfig(base_model="m", template_date=day)


def test_the_day_of_the_first_start_stays(make_run) -> None:
    run = make_run("dated", pairs=LINES, chat_template=DATED)
    train(run)
    assert run.template_date.read_text() == datetime.now().astimezone().date().isoformat()
    other = make_run("plain", pairs=LINES)
    train(other)
    assert not other.template_date.exists()  # its template asks for none


def test_samples_name_the_ids_that_were_given(make_run, tiny_model: Path) -> None:
    run = make_run("run", chat_template=DATED, sampling={"max_new_tokens": 3})
    run.template_date.write_text("2020-02-03")
    write_jsonl(run.prompts, [{"id": 1, "prompt": ASKED}])
    sample(run)
    rows = [json.loads(line) for line in run.samples.read_text().splitlines()]
    text = make_tokenizer(bos=True).decode(rows[0]["prompt_token_ids"])
    assert text == f"Today is 03 Feb 2020.\n<|turn|>user\nit cost?{EOS}\n<|turn|>assistant\n"


def test_a_checkpoint_of_pairs_encoded_otherwise_is_refused(make_run) -> None:
    run: RunDirectory = make_run("run", pairs=LINES, chat_template=DATED, checkpoint_steps=1)
    train(run)
    run.done.unlink()
    run.template_date.write_text("2020-02-03")
    with pytest.raises(StaleCheckpointError, match="belong to another encoding of the pairs;"):
        train(run)
