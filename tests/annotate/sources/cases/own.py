"""Whetstone's own files, and prompts alone."""

from datetime import UTC, datetime

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import BLUE_GREEN, SECOND, SKY, Case, assistant, pair, system

AT = datetime(2024, 5, 1, 10, tzinfo=UTC)
PROVENANCE = {
    **{
        "label": 1.0,
        "margin": 1.0,
        "weight": 1.0,
        "held_out": False,
        "comparison": 5,
        "kind": "standard",
        "batch": "round 2",
        "prompt_id": 9,
    },
    **{
        "votes_chosen": 2,
        "votes_rejected": 0,
        "votes_tie": 0,
        "annotators": ["annotator-1", "annotator-2"],
        "snapshot": None,
    },
}
EXPORTED = {
    "external_id": "c5",
    "metadata": '{"lang": "en"}',
    "prompt_external_id": "p9",
    "prompt_metadata": "{}",
    "chosen_policy": "m1",
    "rejected_policy": "m2",
    "chosen_seed": 3,
}
WHETSTONE: list[Case] = [
    (
        "whetstone",
        {
            "prompt": "Sky?",
            "id": "c1",
            "metadata": {"lang": "en"},
            "completion_a": "Blue.",
            "completion_b": "Green.",
            "policy_a": "m1",
            "policy_b": "m2",
            "gold": "a",
            "prompt_external_id": "p1",
            "prompt_metadata": {"x": 1},
            "withdrawn": True,
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "m1"), Answer("Green.", "m2")),
                external_id="c1",
                metadata={"lang": "en"},
                prompt_external_id="p1",
                prompt_metadata={"x": 1},
                gold="a",
                withdrawn=True,
            )
        ],
    ),
    (  # a table, with a column that it does not know, and an empty cell
        "whetstone",
        {
            "prompt": "Sky?",
            "completion_a": "Blue.",
            "completion_b": "Green.",
            "gold": "",
            "prompt_metadata": '{"x": 1}',
            "withdrawn": "false",
            "lang": "en",
        },
        [Candidate("Sky?", BLUE_GREEN, metadata={"lang": "en"}, prompt_metadata={"x": 1})],
    ),
    (
        "whetstone",
        {"prompt": SKY, "completion_a": [assistant("Blue.")], "completion_b": "Green."},
        [Candidate(SKY, BLUE_GREEN)],
    ),
    (
        "whetstone",
        {"prompt": "Sky?", "id": 1, "metadata": {"lang": "en"}},
        [Candidate("Sky?", external_id="1", metadata={"lang": "en"})],
    ),
    (
        "whetstone-pairs",
        {
            "prompt": SKY,
            "chosen": [assistant("Blue.")],
            "rejected": [assistant("Green.")],
            **PROVENANCE,
            **EXPORTED,
        },
        [
            Candidate(
                SKY,
                (Answer("Blue.", "m1", {"seed": 3}), Answer("Green.", "m2")),
                (Opinion((1.0, 0.0), annotator="annotator-1"), Opinion((1.0, 0.0), annotator="annotator-2")),
                external_id="c5",
                metadata={"lang": "en"},
                prompt_external_id="p9",
                prompt_metadata={},
            )
        ],
    ),
    (  # as CSV, where the annotators disagree
        "whetstone-pairs",
        {
            "prompt": "Sky?",
            "chosen": "Blue.",
            "rejected": "Green.",
            **{key: str(value) for key, value in PROVENANCE.items()},
            "label": "0.75",
            "votes_tie": "1",
            "annotators": '["annotator-1"]',
        },
        [pair(opinion=Opinion((0.75, 0.25)))],
    ),
]

JUDGMENTS = [
    {
        "annotator": "annotator-1",
        "verdict": "b",
        "strength": 2,
        "left": "b",
        "rationale": "Truer.",
        "seconds": 9.5,
        "at": "2024-05-01T10:00:00+00:00",
    },
    {"annotator": "annotator-2", "verdict": "both_bad", "strength": None, "left": "a"},
]
WHETSTONE += [
    (
        "whetstone-pairs",
        {
            **{"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green.", **PROVENANCE},
            **{"verdicts": ["chosen", "tie"], "strengths": [3, None]},
        },
        [
            Candidate(
                "Sky?",
                BLUE_GREEN,
                (
                    Opinion((1.0, 0.0), annotator="annotator-1", strength=3),
                    Opinion((0.5, 0.5), annotator="annotator-2"),
                ),
            )
        ],
    ),
    (  # which side each annotator saw, and first the completion that the first of them saw on the left
        "whetstone-pairs",
        {
            **{"prompt": "Sky?", "chosen": "Green.", "rejected": "Blue.", **PROVENANCE},
            **{"annotators": ["x", "y", "z"], "verdicts": ["chosen", "rejected", "tie"]},
            **{"strengths": [3, 1, None], "chosen_left": [False, True, None]},
        },
        [
            Candidate(
                "Sky?",
                BLUE_GREEN,
                (
                    Opinion((0.0, 1.0), annotator="x", strength=3, left=0),
                    Opinion((1.0, 0.0), annotator="y", strength=1, left=1),
                    Opinion((0.5, 0.5), annotator="z"),
                ),
            )
        ],
    ),
    (
        "whetstone-judged",
        {
            **{
                "prompt": "Sky?",
                "completion_a": "Blue.",
                "completion_b": "Green.",
                "id": "c1",
                "metadata": {"lang": "en"},
            },
            **{
                "gold": None,
                "held_out": False,
                "comparison": 5,
                "kind": "standard",
                "batch": "",
                "judgments": JUDGMENTS,
            },
        },
        [
            Candidate(
                "Sky?",
                BLUE_GREEN,
                (
                    Opinion((0.0, 1.0), "", "annotator-1", 2, "Truer.", 9.5, AT, left=1),
                    Opinion(verdict="both_bad", annotator="annotator-2", left=0),
                ),
                external_id="c1",
                metadata={"lang": "en"},
            )
        ],
    ),
]

WHETSTONE += [
    (
        "whetstone-kto",
        {
            **{"prompt": "Sky?", "completion": "Blue.", "label": True, "both_bad": False, "policy": "m1"},
            **{"completion_id": 4, "comparison": 5, "external_id": "c5", "metadata": "{}", "tools": None},
            **{"prompt_id": 3, "prompt_external_id": "p3", "prompt_metadata": '{"x": 1}'},
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "m1"),),
                (Opinion((1.0,)),),
                external_id="c5",
                metadata={},
                prompt_external_id="p3",
                prompt_metadata={"x": 1},
            )
        ],
    ),
]

COLUMNS: list[Case] = [
    (
        "side-by-side",
        {
            "prompt": "Sky?",
            "text_a": "Blue.",
            "text_b": "Green.",
            "preference": "B",
            "rater": 3,
            "reason": "Truer.",
        },
        [pair(opinion=Opinion((0.0, 1.0), annotator="3", rationale="Truer."))],
    ),
    (
        "side-by-side",
        {"instruction": "Sky?", "output_1": "Blue.", "output_2": "Green.", "label": "tie", "topic": "x"},
        [pair(opinion=Opinion((0.5, 0.5)), metadata={"topic": "x"})],
    ),
    (
        "side-by-side",
        {"question": "Sky?", "answer_1": "Blue.", "model_1": "m1", "answer_2": "Green.", "model_2": "m2"},
        [Candidate("Sky?", (Answer("Blue.", "m1"), Answer("Green.", "m2")))],
    ),
    (
        "side-by-side",
        {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green.", "winner": "completion_a"},
        [pair()],
    ),
    (  # a spreadsheet
        "side-by-side",
        {
            "prompt": "Sky?",
            "Answer A": "Blue.",
            "Answer B": "Green.",
            "Better": "B",
            "Rater ID": 3,
            "Comments": "x",
        },
        [pair(opinion=Opinion((0.0, 1.0), annotator="3", rationale="x"))],
    ),
    (
        "side-by-side",
        {
            "prompt": "Sky?",
            "answer_a": "Blue.",
            "model_a": "m1",
            "answer_b": "Green.",
            "model_b": "m2",
            "winner": "m2",
        },
        [Candidate("Sky?", (Answer("Blue.", "m1"), Answer("Green.", "m2")), (SECOND,))],
    ),
    (  # of two rows of texts, the one that is called so
        "side-by-side",
        {
            "prompt": "Sky?",
            "answer_a": "Blue.",
            "answer_b": "Green.",
            "hint_a": "x",
            "hint_b": "y",
            "winner": "a",
        },
        [pair(metadata={"hint_a": "x", "hint_b": "y"})],
    ),
    (
        "side-by-side",
        {"question": "Sky?", "source": "mmlu", "answer_a": "Blue.", "answer_b": "Green.", "selected": "b"},
        [pair(opinion=SECOND, metadata={"source": "mmlu"})],
    ),
]

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
PLAIN = Candidate("Sky?", metadata={"response": "Blue.", "answer": "4"})
REFERRED = Candidate("Sky?", metadata={"response": "Blue.", "reference_answer": "4"})
PROMPTS: list[Case] = [
    (
        "prompts",
        {"prompt": "Sky?", "id": "p1", "topic": "x"},
        [Candidate("Sky?", external_id="p1", metadata={"topic": "x"})],
    ),
    ("prompts", {"prompt": SKY}, [Candidate(SKY)]),
    ("prompts", {"system": "Be short.", "prompt": "Sky?"}, [Candidate([system("Be short."), *SKY])]),
    ("chats", {"messages": [system("Be short."), *SKY]}, [Candidate([system("Be short."), *SKY])]),
    (
        "chats",
        {"conversations": [{"from": "human", "value": "Sky?"}, {"from": "gpt", "value": "Blue."}]},
        [Candidate(SKY, metadata={"answer": [assistant("Blue.")]})],
    ),
    (
        "alpaca",
        {"instruction": "Name it.", "input": "Sky?", "output": "Blue."},
        [Candidate("Name it.\nSky?", metadata={"output": "Blue."})],
    ),
    (  # Dolly
        "alpaca",
        {"instruction": "Name it.", "context": "Sky?", "response": "Blue.", "category": "qa"},
        [Candidate("Name it.\nSky?", metadata={"response": "Blue.", "category": "qa"})],
    ),
    (  # WildChat, with what was found out about each message
        "chats",
        {
            "conversation": [{**SKY[0], "toxic": False}, assistant("Blue.")],
            "openai_moderation": [{"flagged": False}, {"flagged": False}],
        },
        [
            Candidate(
                SKY,
                metadata={
                    "openai_moderation": [{"flagged": False}] * 2,
                    "answer": [assistant("Blue.")],
                    "about_messages": [{"toxic": False}],
                },
            )
        ],
    ),
    ("prompts", {"prompt": "Sky?", "response": "Blue.", "answer": "4"}, [PLAIN]),
    (  # OpenAI's functions, which came before its tools
        "prompts",
        {"prompt": "Sky?", "functions": [{"name": "look", "parameters": {"type": "object"}}], "topic": "x"},
        [Candidate("Sky?", tools=(LOOK,), metadata={"topic": "x"})],
    ),
    (
        "chats",
        {"messages": SKY, "functions": '[{"name": "look", "parameters": {"type": "object"}}]'},
        [Candidate(SKY, tools=(LOOK,))],
    ),
    (  # a log of OpenAI's API
        "chats",
        {
            "messages": [
                *SKY,
                {**assistant("Blue."), "refusal": None, "annotations": [{"type": "url_citation"}]},
            ]
        },
        [
            Candidate(
                SKY, metadata={"answer": [{**assistant("Blue."), "annotations": [{"type": "url_citation"}]}]}
            )
        ],
    ),
    (
        "prompts",
        {"prompt": "Sky?", "tag_1": "light", "tag_2": "air"},
        [Candidate("Sky?", metadata={"tag_1": "light", "tag_2": "air"})],
    ),
    ("prompts", {"prompt": "Sky?", "response": "Blue.", "reference_answer": "4"}, [REFERRED]),
]

CASES = [*WHETSTONE, *COLUMNS, *PROMPTS]
