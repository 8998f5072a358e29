"""Chat templates and patterns are programs from outside: each ends, with a sentence where it must be ended."""

import inspect
from typing import Any

import pytest

from tests.engine.conftest import make_model, make_tokenizer, tiny_llama
from training.engine.adapters import targets
from training.engine.adapters.loading import wrap
from training.engine.config import TEMPLATE_PARAMETERS, TrainConfig
from training.engine.data import chats
from training.engine.data.tokens import Encoder
from training.engine.errors import ConfigError, DataError

CHAT = [{"role": "user", "content": "the film"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def encoder(**settings: Any) -> Encoder:
    config = TrainConfig.from_dict({"base_model": "m"} | settings)
    return Encoder(
        make_tokenizer(),
        eos_ids=frozenset({1}),
        vocab_size=320,
        max_length=128,
        chat_template=config.chat_template,
        chat_template_kwargs=config.chat_template_kwargs,
    )


def test_a_chat_template_of_ones_own_takes_the_tokenizers_place() -> None:
    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}{{ mood }}"
    using = encoder(chat_template=template, chat_template_kwargs={"mood": "!"})
    assert using.chats.render(CHAT) == "[the film]!"
    assert encoder().chats.render(CHAT) == "<|turn|>user\nthe film</s>\n<|turn|>assistant\n"


@pytest.mark.parametrize("template", [LOOP, "{{ 9 ** (9 ** 9) }}"], ids=["loop", "power"])
def test_a_chat_template_that_never_ends_is_ended(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "_TEMPLATE_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"^The chat template takes longer than 0\.2 s for one prompt\.$"):
        encoder(chat_template=template).chats.render(CHAT)


def test_a_chat_template_cannot_flood_a_prompt() -> None:
    with pytest.raises(DataError, match=r"^The chat template makes 20000000 characters of one prompt\.$"):
        encoder(chat_template="{{ 'x' * 20000000 }}").chats.render(CHAT)


def test_a_broken_chat_template_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"^The chat template refused a prompt: .+") as told:
        encoder(chat_template="{% for %}").chats.render(CHAT)
    assert "\n" not in str(told.value)


def test_no_argument_of_the_tokenizer_reaches_it_by_the_template() -> None:
    of_the_tokenizer = inspect.signature(make_tokenizer().apply_chat_template).parameters
    named = {name for name, one in of_the_tokenizer.items() if one.kind is not one.VAR_KEYWORD}
    assert named <= TEMPLATE_PARAMETERS
    for name in TEMPLATE_PARAMETERS:
        with pytest.raises(ConfigError, match=f"^chat_template_kwargs: {name} "):
            encoder(chat_template_kwargs={name: "{{ 7 * 7 }}"})


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(\w+\.?)+!", r"^lora\.target_modules: matching takes longer than 0\.2 s\.$"),
        ("(q_proj", r"^lora\.target_modules is not a regular expression: "),
    ],
)
def test_a_pattern_of_layers_that_never_ends_is_ended(
    pattern: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_PATTERN_SECONDS", 0.2)
    config = TrainConfig.from_dict({"base_model": "m", "lora": {"target_modules": pattern}})
    with pytest.raises(ConfigError, match=message):
        wrap(make_model(tiny_llama()), config)


def test_a_pattern_of_layers_chooses_them() -> None:
    lora = {"r": 2, "target_modules": r".*layers\.1\..*q_proj"}
    model = wrap(make_model(tiny_llama()), TrainConfig.from_dict({"base_model": "m", "lora": lora}))
    adapted = {name for name, _ in model.named_parameters() if "lora_A" in name}
    assert len(adapted) == 1
