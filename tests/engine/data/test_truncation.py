"""A prompt that is too long keeps its instructions, and loses the middle of its longest turn."""

import dataclasses

import pytest

from tests.engine.data.test_tokens import encode, encoder, pair
from training.engine.data.truncation import cut_middle

CONTROL = frozenset({0, 1, 2})  # begin of text, end of turn, begin of turn
SYSTEM, LONG, ANSWER, QUESTION = (
    [*range(100, 110)],
    [*range(200, 300)],
    [*range(300, 330)],
    [*range(400, 460)],
)
CHAT = [0, 2, *SYSTEM, 1, 2, *LONG, 1, 2, *ANSWER, 1, 2, *QUESTION, 1, 2]
SAID = range(0, 13)


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (len(CHAT), CHAT),
        # 30 too many: the longest turn gives them all.
        (
            len(CHAT) - 30,
            [0, 2, *SYSTEM, 1, 2, *LONG[:35], *LONG[65:], 1, 2, *ANSWER, 1, 2, *QUESTION, 1, 2],
        ),
        # 61 too many: it is as long as the next, and the odd one of both goes from the second.
        (
            len(CHAT) - 61,
            [0, 2, *SYSTEM, 1, 2, *LONG[:25], *LONG[-25:], 1, 2, *ANSWER, 1, 2, *QUESTION[:24], *QUESTION[-25:], 1, 2],
        ),
        # 16 tokens are left of each turn, and no token of the system message is lost.
        (
            68,
            [
                *(0, 2, *SYSTEM, 1, 2, *LONG[:8], *LONG[-8:], 1, 2, *ANSWER[:8], *ANSWER[-8:]),
                *(1, 2, *QUESTION[:8], *QUESTION[-8:], 1, 2),
            ],
        ),
        # Fewer: the beginning of the text, and both ends of the whole.
        (13, [0, *CHAT[1:7], *CHAT[-6:]]),
        (2, [0, CHAT[-1]]),
        (1, [CHAT[-1]]),
    ],
)  # fmt: skip
def test_ids_of_a_chat_in_less_room(room: int, expected: list[int]) -> None:
    assert cut_middle(CHAT, room, control=CONTROL, kept=[SAID], first=1) == tuple(expected)


def test_a_system_message_is_cut_last_of_all() -> None:
    long = [0, 2, *range(100, 300), 1, 2, *range(300, 320), 1, 2]
    cut = cut_middle(long, 60, control=CONTROL, kept=[range(0, 203)], first=1)
    assert cut == (0, 2, *range(100, 117), *range(283, 300), 1, 2, *range(300, 320), 1, 2)


def test_system_and_tools_stay_and_the_prefix_is_exact() -> None:
    chat = [
        {"role": "system", "content": "the film was good <|turn|> and bright" * 3},
        {"role": "user", "content": "it cost " * 30},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": "was the film long and bright"},
    ]
    one = pair(chat, "good", "bad and dull")
    whole, _ = encode(one)
    cut, report = encode(one, encoder(max_length=150))
    using = encoder()
    system = using.tokenizer("<|turn|>system\n", add_special_tokens=False)["input_ids"]
    start = whole.prompt.index(2, len(system))  # of the first turn that may be cut
    lost = len(whole.prompt) - len(cut.prompt)
    assert len(cut.prompt) + max(len(cut.chosen), len(cut.rejected)) == 150
    assert cut.prompt[: start + 3] == whole.prompt[: start + 3]  # with the header "user"
    assert cut.prompt[-40:] == whole.prompt[-40:]  # the answer, and the last turn whole
    at = next(
        place for place, ids in enumerate(zip(cut.prompt, whole.prompt, strict=False)) if len(set(ids)) > 1
    )
    assert cut.prompt == (*whole.prompt[:at], *whole.prompt[at + lost :])
    assert report.truncated == {"prompt_middle": 1}
    assert report.examples == {"prompt_middle": ["7"]}
    # Sampled ids of the same chat are cut in the same place.
    sampled = dataclasses.replace(one, prompt_token_ids=whole.prompt)
    assert encode(sampled, encoder(max_length=150))[0] == cut
