"""Text becomes the ids that the model would see, and nothing is silently lost at a boundary."""

import dataclasses

import pytest
from tokenizers import AddedToken

from tests.engine.conftest import CHAT_TEMPLATE, EOS, VOCABULARY, make_tokenizer
from training.engine.data.tokens import Encoder
from training.engine.errors import DataError, ModelError
from training.engine.records import TrainingCompletion, TrainingPair

BOS_ID, EOS_ID, TURN_ID = 0, 1, 2
# Of the assistant's last turn as Qwen3 has it: with the block of thoughts that it left out.
BLOCK = "{% if message['role'] == 'assistant' and loop.last %}<think></think>{% endif %}"


def encoder(
    max_length: int = 256,
    ends: frozenset[int] = frozenset({EOS_ID}),
    template: str | None = None,
    settings: dict | None = None,
    **tokenizer: bool,
) -> Encoder:
    return Encoder(
        make_tokenizer(**tokenizer),
        eos_ids=ends,
        vocab_size=VOCABULARY,
        max_length=max_length,
        chat_template=template,
        **(settings or {}),
    )


def pair(prompt="the film", chosen=" was good", rejected=" was bad", **more) -> TrainingPair:
    both = {
        key: value if isinstance(value, TrainingCompletion) else TrainingCompletion(text=value)
        for key, value in (("chosen", chosen), ("rejected", rejected))
    }
    return TrainingPair(id="7", prompt=prompt, **both, **more)


def encode(one: TrainingPair, using: Encoder | None = None):
    encoded, report = (using or encoder()).encode_pairs([one])
    return (encoded[0] if encoded else None), report


BOUNDARIES = [
    ("it cost", " $46"),
    ("it cost $", "46"),
    ("it cost ", "$46"),
    ("no trailing spa", "ce"),
    ("the film was", "good"),
    ("今日", "は映画"),
    ("映", "画"),
    ("🎬", "🎉🎬"),
    ("naï", "ve"),
    ("line\n", "\nline"),
    ("the ", " film"),
]


# What the SentencePiece-like one was trained on.
_ASCII = [case for case in BOUNDARIES if "".join(case).isascii()]


@pytest.mark.parametrize(
    ("kind", "prompt", "completion"),
    [({"bos": bos}, *case) for bos in (False, True) for case in BOUNDARIES]
    + [({"metaspace": True}, *case) for case in _ASCII],
)
def test_prompt_ids_are_a_prefix_and_no_character_is_lost(kind: dict, prompt: str, completion: str) -> None:
    using = encoder(**kind)
    encoded, _ = encode(pair(prompt, completion, completion + " bad"), using)
    assert encoded.prompt == using.prompt_ids(prompt)  # what `sample` would feed, whatever comes after it
    text = using.tokenizer.decode([*encoded.prompt, *encoded.chosen], skip_special_tokens=True)
    assert text == prompt + completion


def test_a_completion_has_the_ids_it_would_have_as_running_text() -> None:
    using = encoder(metaspace=True)
    encoded, _ = encode(pair("the film", " was good"), using)
    together = using.tokenizer("the film was good", add_special_tokens=False)["input_ids"]
    assert [*encoded.prompt, *encoded.chosen] == [*together, EOS_ID]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "it cost"}],
        [{"role": "system", "content": "be short"}, {"role": "user", "content": "it cost"}],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    ],
    ids=["user", "system", "turns"],
)
def test_chat_prompt_is_rendered_up_to_the_assistants_turn(messages: list[dict]) -> None:
    using = encoder(bos=True)
    encoded, _ = encode(pair(messages, "46", "$46"), using)
    rendered = using.tokenizer.decode(encoded.prompt)
    assert rendered.endswith("<|turn|>assistant\n")
    assert rendered.count("assistant") == 1 + sum(m["role"] == "assistant" for m in messages)
    assert using.tokenizer.decode(encoded.chosen) == "46" + EOS


def test_thinking_block_of_the_template_belongs_to_the_prompt() -> None:
    template = CHAT_TEMPLATE.replace("{{ message['content'] }}", BLOCK + "{{ message['content'] }}")
    using = encoder(template=template, settings={"chat_template_kwargs": {"enable_thinking": False}})
    encoded, _ = encode(pair([{"role": "user", "content": "a"}], "46", "47"), using)
    assert using.tokenizer.decode(encoded.prompt).endswith("<think></think>")
    assert using.tokenizer.decode(encoded.chosen) == "46" + EOS


def test_a_prompt_that_ends_with_the_assistant_is_gone_on_with() -> None:
    using = encoder()
    prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "it cost"}]
    encoded, _ = encode(pair(prompt, " $46", " 46"), using)
    assert using.tokenizer.decode(encoded.prompt).endswith("it cost")


def test_a_completion_may_be_one_assistant_message() -> None:
    prompt = [{"role": "user", "content": "a"}]
    as_text, _ = encode(pair(prompt, "46", "47"))
    as_message, _ = encode(
        pair(prompt, TrainingCompletion(text=[{"role": "assistant", "content": "46"}]), "47")
    )
    assert as_message == as_text


def test_chats_without_a_chat_template_are_refused() -> None:
    using = encoder()
    using.tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        encode(pair([{"role": "user", "content": "a"}]), using)


def test_sampled_ids_are_trained_on_as_they_are() -> None:
    # 46 as two tokens where the tokenizer would write one
    sampled = TrainingCompletion(text="46", token_ids=(30, 31), finish_reason="length")
    encoded, _ = encode(pair(chosen=sampled, prompt_token_ids=(9, 8)))
    assert encoded.chosen == (30, 31)
    assert encoded.prompt == (9, 8)


def test_one_bos_also_where_the_prompt_brings_its_own() -> None:
    using = encoder(bos=True)
    assert using.prompt_ids("the film").count(BOS_ID) == 1
    assert using.prompt_ids("<s>the film") == using.prompt_ids("the film")
    assert BOS_ID not in encode(pair(), using)[0].chosen
    assert BOS_ID not in encoder().prompt_ids("the film")  # this tokenizer adds none


def test_a_bos_that_the_chat_template_writes_is_not_doubled() -> None:
    using = encoder(bos=True, template="<s>" + CHAT_TEMPLATE)
    chat = [{"role": "user", "content": "a"}]
    encoded, _ = encode(pair(chat), using)
    assert encoded.prompt[0] == BOS_ID
    assert encoded.prompt.count(BOS_ID) == 1
    assert encoded.prompt == using.prompt_ids(chat)


def test_chat_completion_ends_with_the_turn_plain_one_with_eos() -> None:
    template = CHAT_TEMPLATE.replace("</s>", "<|turn|>")
    using = encoder(ends=frozenset({EOS_ID, TURN_ID}), template=template)
    chat, _ = encode(pair([{"role": "user", "content": "a"}]), using)
    plain, _ = encode(pair(), using)
    assert (chat.chosen[-1], plain.chosen[-1]) == (TURN_ID, EOS_ID)
    assert chat.chosen[:-1] == plain.chosen[:-1]
    ended = TrainingCompletion(text="", token_ids=(40, EOS_ID))  # sampled: the end that the model chose stays
    assert encode(pair([{"role": "user", "content": "a"}], ended), using)[0].chosen == (40, EOS_ID)


def test_label_margin_and_weight_stay_with_their_pair() -> None:
    long = "the film was good " * 20
    for prompt in ("the film", long):  # the second is truncated
        encoded, _ = encode(pair(prompt, label=0.7, margin=1.5, weight=0.25), encoder(max_length=16))
        assert (encoded.label, encoded.margin, encoded.weight) == (0.7, 1.5, 0.25)


def test_eos_is_scored_once_when_the_model_ended() -> None:
    for completion in (
        TrainingCompletion(text=" was good"),
        TrainingCompletion(text=" was good</s>"),
        TrainingCompletion(text=" was good", finish_reason="stop"),
        TrainingCompletion(text="", token_ids=(40, 41), finish_reason="stop"),
        TrainingCompletion(text="", token_ids=(40, 41, EOS_ID)),
    ):
        encoded, _ = encode(pair(chosen=completion))
        assert encoded.chosen[-1] == EOS_ID
        assert encoded.chosen.count(EOS_ID) == 1


def test_eos_is_absent_when_the_completion_was_cut() -> None:
    for completion in (
        TrainingCompletion(text=" was good", finish_reason="length"),
        TrainingCompletion(text="", token_ids=(40, 41), finish_reason="length"),
        TrainingCompletion(text="", token_ids=(40, 41)),
    ):
        assert EOS_ID not in encode(pair(chosen=completion))[0].chosen


def test_eos_is_kept_when_it_is_also_the_padding() -> None:
    using = encoder()
    using.tokenizer.pad_token = EOS
    assert encode(pair(), using)[0].chosen[-1] == EOS_ID


def test_a_plain_prompt_loses_its_middle_and_keeps_its_bos() -> None:
    long = "the film was good and it was long and the film was short"
    whole, _ = encode(pair(long), encoder(bos=True))
    cut, report = encode(pair(long), encoder(bos=True, max_length=12))
    room = 12 - max(len(cut.chosen), len(cut.rejected))
    head = (room - 1) // 2
    assert cut.prompt == (BOS_ID, *whole.prompt[1 : 1 + head], *whole.prompt[-(room - 1 - head) :])
    assert (cut.chosen, cut.rejected) == (whole.chosen, whole.rejected)
    assert report.truncated == {"prompt_middle": 1}


def test_completion_is_cut_only_if_the_prompt_keeps_no_quarter() -> None:
    long = " was good" * 20
    cut, report = encode(pair("the film was good and it was", long, " bad" + long), encoder(max_length=16))
    assert len(cut.prompt) == 4
    assert len(cut.prompt) + len(cut.chosen) == 16
    assert EOS_ID not in cut.chosen  # it was cut
    assert report.truncated == {"prompt_middle": 1, "completion": 1}


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (pair(prompt=""), "empty_prompt"),
        (pair(chosen=""), "empty_completion"),
        (
            pair(rejected=TrainingCompletion(text="x", token_ids=(), finish_reason="length")),
            "empty_completion",
        ),
        (pair(chosen=" same", rejected=" same"), "identical_completions"),
        (pair(chosen=" good" * 40 + " a", rejected=" good" * 40 + " b"), "identical_after_truncation"),
    ],
)
def test_untrainable_pairs_are_left_out_and_counted_by_reason(one: TrainingPair, reason: str) -> None:
    encoded, report = encode(one, encoder(max_length=16))
    assert encoded is None
    assert report.dropped == {reason: 1}
    assert report.examples[reason] == ["7"]


def test_an_empty_prompt_is_the_bos_alone_where_there_is_one() -> None:
    encoded, _ = encode(pair(prompt=""), encoder(bos=True))
    assert encoded.prompt == (BOS_ID,)


@pytest.mark.parametrize("max_length", range(4, 40))
def test_truncated_pairs_are_whole_and_differ(max_length: int) -> None:
    using = encoder(bos=True, max_length=max_length)
    for chosen in (" good", " good" * 9, " good" * 30):
        encoded, _ = encode(pair("the film was good" * 4, chosen, " bad" * 9), using)
        if encoded is not None:
            assert encoded.prompt
            assert encoded.chosen
            assert encoded.rejected
            assert encoded.chosen != encoded.rejected
            assert len(encoded.prompt) + max(len(encoded.chosen), len(encoded.rejected)) <= max_length


def test_ids_outside_the_vocabulary_are_refused_by_pair() -> None:
    broken = dataclasses.replace(pair(), id="93", prompt_token_ids=(VOCABULARY,))
    with pytest.raises(DataError, match=rf"Pair 93 .*{VOCABULARY}"):
        encode(broken)


def refusing_encoder() -> Encoder:
    """Its template, as Gemma's once did, raises for a system message; and it passes over a critic's words."""
    return encoder(
        template="{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}<|turn|>{% if 'critic' not in message['content'] %}{{ message['content'] }}"
        "{% endif %}</s>{% endfor %}"
    )


def test_a_refused_chat_is_named_left_out_and_counted() -> None:
    chats = {
        "fine": [{"role": "user", "content": "a"}],
        "system": [{"role": "system", "content": "b"}, {"role": "user", "content": "a"}],
        "lost": [{"role": "user", "content": "the critic said so"}],
    }
    pairs = [
        TrainingPair(
            id=name,
            prompt=chat,
            chosen=TrainingCompletion(text="46"),
            rejected=TrainingCompletion(text="47"),
            where=f"line {at}",
        )
        for at, (name, chat) in enumerate(chats.items(), start=1)
    ]
    encoded, report = refusing_encoder().encode_pairs(pairs)
    assert [one.id for one in encoded] == ["fine"]
    assert report.dropped == {"refused_by_template": 2}
    assert report.refusals == [
        "Pair system (line 2) is left out: The chat template refused a prompt: System role not supported.",
        "Pair lost (line 3) is left out: The chat template leaves out what the user says.",
    ]


def test_tools_reach_the_chat_template() -> None:
    using = encoder(template="{% if tools %}{{ tools[0]['name'] }}{% endif %}" + CHAT_TEMPLATE)
    ids = using.prompt_ids([{"role": "user", "content": "a"}], [{"name": "search"}])
    assert using.tokenizer.decode(ids).startswith("search")


def test_blanks_that_the_tokenizer_drops_are_reported_as_such() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken("<|answer|>", rstrip=True, special=True)], special_tokens=True)
    template = "{% for m in messages %}<|answer|>{{ m.content }}</s>{% endfor %}"
    using = Encoder(
        tokenizer,
        eos_ids=frozenset({EOS_ID}),
        vocab_size=len(tokenizer),
        max_length=99,
        chat_template=template + "{% if add_generation_prompt %}<|answer|>{% endif %}",
    )
    one = pair([{"role": "user", "content": "a"}], " good", "good")
    assert encode(one, using)[1].dropped == {"identical_to_tokenizer": 1}
