"""Records that trainers read."""

import json

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import BLUE_GREEN, FIRST, SKY, Case, assistant, pair, system, user

WEATHER = {"name": "weather", "parameters": {"type": "object"}}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {}}}],
}
GOOD, BAD = Opinion((1.0,)), Opinion((0.0,))
LOSS = ("Images, sound and video are taken only where they are written into the text as data URIs",)


def said(text: str) -> list[dict[str, object]]:
    return [{"type": "text", "value": text}]


TRL: list[Case] = [
    ("trl", {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}, [pair()]),
    (
        "trl",
        {
            "id": 7,
            "prompt": "Sky?",
            "chosen": "Blue.",
            "rejected": "Green.",
            "score_chosen": 8.5,
            "score_rejected": 6,
            "context": "noon",
        },
        [pair(opinion=Opinion((8.5, 6.0)), external_id="7", metadata={"context": "noon"})],
    ),
    (
        "trl",
        {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green.", "hint_1": "Up.", "hint_2": "Day."},
        [pair(metadata={"hint_1": "Up.", "hint_2": "Day."})],
    ),
    ("trl", {"prompt": SKY, "chosen": [assistant("Blue.")], "rejected": [assistant("Green.")]}, [pair(SKY)]),
    ("trl", {"chosen": [*SKY, assistant("Blue.")], "rejected": [*SKY, assistant("Green.")]}, [pair(SKY)]),
    (
        "trl",
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        [Candidate("The sky is", (Answer(" blue."), Answer(" green.")), (FIRST,))],
    ),
    (  # a table: chats are JSON in their cells
        "trl",
        {
            "prompt": '[{"role": "user", "content": "Sky?"}]',
            "chosen": '[{"role": "assistant", "content": "Blue."}]',
            "rejected": '[{"role": "assistant", "content": "Green."}]',
        },
        [pair(SKY)],
    ),
    (  # UltraFeedback binarized
        "trl",
        {
            "prompt": "Sky?",
            "prompt_id": "p1",
            "chosen": [*SKY, assistant("Blue.")],
            "rejected": [*SKY, assistant("Green.")],
            "messages": [*SKY, assistant("Blue.")],
            "score_chosen": 8.0,
            "score_rejected": 8.0,
        },
        [
            pair(
                SKY,
                prompt_external_id="p1",
                metadata={"messages": [*SKY, assistant("Blue.")], "score_chosen": 8.0, "score_rejected": 8.0},
            )
        ],
    ),
    (  # the models that wrote them
        "trl",
        {
            "prompt": "Sky?",
            "chosen": "Blue.",
            "chosen_model": "m1",
            "rejected": "Green.",
            "rejected_model": "m2",
        },
        [Candidate("Sky?", (Answer("Blue.", "m1"), Answer("Green.", "m2")), (FIRST,))],
    ),
    (  # the whole use of a tool is a completion
        "trl",
        {
            "prompt": SKY,
            "chosen": [CALL, {"role": "tool", "name": "weather", "content": "blue"}, assistant("Blue.")],
            "rejected": [assistant("Green.")],
            "tools": [WEATHER],
        },
        [
            Candidate(
                SKY,
                (
                    Answer(
                        [CALL, {"role": "tool", "name": "weather", "content": "blue"}, assistant("Blue.")]
                    ),
                    Answer("Green."),
                ),
                (FIRST,),
                (WEATHER,),
            )
        ],
    ),
    (
        "trl",
        {
            "prompt": "Sky?",
            "images": ["https://example.org/sky.png"],
            "chosen": [assistant("Blue.")],
            "rejected": [assistant("Green.")],
        },
        [pair(SKY, metadata={"images": ["https://example.org/sky.png"]}, losses=LOSS)],
    ),
    (
        "trl-kto",
        {"prompt": "Sky?", "completion": "Blue.", "label": True},
        [Candidate("Sky?", (Answer("Blue."),), (GOOD,))],
    ),
    (
        "trl-kto",
        {"prompt": SKY, "completion": [assistant("Green.")], "label": "False"},
        [Candidate(SKY, (Answer("Green."),), (BAD,))],
    ),
    (
        "trl-kto",
        {"completion": [*SKY, assistant("Blue.")], "label": 1},
        [Candidate(SKY, (Answer("Blue."),), (GOOD,))],
    ),
    (
        "trl-kto",
        {"system": "Be short.", "question": "Sky?", "completion": "Blue.", "label": True},
        [Candidate([system("Be short."), *SKY], (Answer("Blue."),), (GOOD,))],
    ),
    (
        "chosen-rejected",
        {"request": "Sky?", "chosen": "Blue.", "rejected": "Green.", "tag": "a"},
        [pair(metadata={"tag": "a"})],
    ),
    (
        "chosen-rejected",
        {"system": "Be short.", "question": "Sky?", "chosen": "Blue.", "rejected": "Green."},
        [pair([system("Be short."), *SKY])],
    ),
]

DIALOGUES: list[Case] = [
    (
        "hh",
        {
            "chosen": "\n\nHuman: Hi \n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant: Blue.",
            "rejected": "\n\nHuman: Hi \n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant: Green.",
        },
        [pair([user("Hi "), assistant("Hello."), *SKY])],
    ),
    (
        "hh",
        {"prompt": "\n\nHuman: Sky?\n\nAssistant:", "chosen": " Blue.", "rejected": " Green."},
        [pair(SKY)],
    ),
    (
        "nemo",
        {
            "prompt": "<extra_id_0>System\n\n<extra_id_1>User\nSky?\n<extra_id_1>Assistant\n",
            "chosen_response": "Blue.\n<extra_id_1>",
            "rejected_response": "Green.\n<extra_id_1>",
            "chosen_reward": 5,
            "rejected_reward": 2,
        },
        [pair(SKY, Opinion((5.0, 2.0)))],
    ),
    ("nemo", {"prompt": "Sky?", "chosen_response": "Blue.", "rejected_response": "Green."}, [pair()]),
    (
        "nemo-rl",
        {
            "context": SKY,
            "completions": [
                {"rank": 1, "completion": [assistant("Green.")]},
                {"rank": 0, "completion": [assistant("Blue.")]},
            ],
            "task_name": "t",
        },
        [Candidate(SKY, BLUE_GREEN[::-1], (Opinion((0.0, 1.0)),), metadata={"task_name": "t"})],
    ),
    (
        "openai",
        {
            "input": {
                "messages": [{"role": "developer", "content": "Be short."}, *SKY],
                "tools": [WEATHER],
                "parallel_tool_calls": True,
            },
            "preferred_output": [assistant("Blue.")],
            "non_preferred_output": [assistant("Green.")],
        },
        [
            pair(
                [{"role": "developer", "content": "Be short."}, *SKY],
                tools=(WEATHER,),
                metadata={"parallel_tool_calls": True},
            )
        ],
    ),
]

LLAMA_FACTORY: list[Case] = [
    (
        "llama-factory-alpaca",
        {
            "instruction": "Name the colour.",
            "input": "Sky?",
            "chosen": "Blue.",
            "rejected": "Green.",
            "system": "",
            "history": [],
        },
        [pair("Name the colour.\nSky?")],
    ),
    (
        "llama-factory-alpaca",
        {
            "instruction": "Sky?",
            "input": "",
            "chosen": "Blue.",
            "rejected": "Green.",
            "system": "Be short.",
            "history": [["Hi", "Hello."]],
        },
        [pair([system("Be short."), user("Hi"), assistant("Hello."), *SKY])],
    ),
    (
        "llama-factory-sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "Weather?"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {}}'},
                {"from": "observation", "value": "blue"},
            ],
            "system": "Be short.",
            "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
            "chosen": {"from": "gpt", "value": "Blue."},
            "rejected": {"from": "gpt", "value": "Green."},
        },
        [
            pair(
                [system("Be short."), user("Weather?"), CALL, {"role": "tool", "content": "blue"}],
                tools=(WEATHER,),
            )
        ],
    ),
    (
        "llama-factory-sharegpt",
        {"conversations": [{"from": "human", "value": "Sky?"}], "chosen": "Blue.", "rejected": "Green."},
        [pair(SKY)],
    ),
    (
        "llama-factory-sharegpt",
        {"messages": SKY, "chosen": assistant("Blue."), "rejected": assistant("Green.")},
        [pair(SKY)],
    ),
    (
        "llama-factory-v1",
        {
            "chosen_messages": [
                {"role": "user", "content": said("Sky?"), "loss_weight": 0.0},
                {"role": "assistant", "content": said("Blue."), "loss_weight": 1.0},
            ],
            "rejected_messages": [
                {"role": "user", "content": said("Sky?"), "loss_weight": 0.0},
                {"role": "assistant", "content": said("Green."), "loss_weight": 1.0},
            ],
        },
        [pair(SKY)],
    ),
    (
        "llama-factory-kto",
        {"instruction": "Sky?", "input": "", "output": "Green.", "kto_tag": False},
        [Candidate("Sky?", (Answer("Green."),), (BAD,))],
    ),
    (
        "llama-factory-kto",
        {"messages": [*SKY, assistant("Blue.")], "label": True},
        [Candidate(SKY, (Answer("Blue."),), (GOOD,))],
    ),
]

OTHERS: list[Case] = [
    ("axolotl", {"instruction": "Sky?", "chosen_response": "Blue.", "rejected_response": "Green."}, [pair()]),
    (
        "ms-swift",
        {"messages": [system("Be short."), *SKY, assistant("Blue.")], "rejected_response": "Green."},
        [pair([system("Be short."), *SKY])],
    ),
    (
        "ms-swift",
        {"messages": [*SKY, assistant("Blue.")], "rejected_messages": [*SKY, assistant("Green.")]},
        [pair(SKY)],
    ),
    (
        "ms-swift",
        {
            "messages": [*SKY, assistant("Blue.")],
            "rejected_messages": [*SKY, assistant("Green.")],
            "tools": json.dumps([WEATHER]),
            "rejected_tools": json.dumps([WEATHER]),
        },
        [pair(SKY, tools=(WEATHER,))],
    ),
    (
        "ms-swift",
        {
            "messages": [user("<image>Sky?"), assistant("Blue.")],
            "images": ["a.png"],
            "rejected_images": ["b.png"],
        },
        [
            Candidate(
                [user("<image>Sky?")],
                (Answer("Blue."), Answer("Blue.")),
                (FIRST,),
                metadata={"images": ["a.png"], "rejected_images": ["b.png"]},
                losses=LOSS,
            )
        ],
    ),
    (
        "turbo-alignment",
        {
            "id": "0",
            "context": [{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Hello."}, *SKY],
            "answer_w": {"role": "bot", "content": "Blue."},
            "answer_l": {"role": "bot", "content": "Green."},
        },
        [pair([user("Hi"), assistant("Hello."), *SKY], external_id="0")],
    ),
    (
        "turbo-alignment",
        {"context": SKY, "answer": {"role": "bot", "content": "Blue."}, "is_desirable": True},
        [Candidate(SKY, (Answer("Blue."),), (GOOD,))],
    ),
]

OTHERS += [
    (  # before it had messages
        "ms-swift",
        {
            "system": "Be short.",
            "query": "Sky?",
            "response": "Blue.",
            "rejected_response": "Green.",
            "history": [["Hi", "Hello."]],
        },
        [pair([system("Be short."), user("Hi"), assistant("Hello."), *SKY])],
    ),
    (
        "openai",
        {
            "input": SKY,
            "preferred_output": [assistant("Blue.")],
            "non_preferred_output": [assistant("Green.")],
        },
        [pair(SKY)],
    ),
]

CASES = [*TRL, *DIALOGUES, *LLAMA_FACTORY, *OTHERS]
