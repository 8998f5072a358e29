"""Records of collections about safety, values, help and code, and of rated conversations."""

from typing import Any

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import SECOND, Case, assistant, pair, user


def reply(turn: int, text: str, model: str, score: int) -> dict[str, Any]:
    return {"turn": turn, "role": "model", "content": text, "model_name": model, "score": score}


CASES: list[Case] = [
    (
        "beavertails",
        {"prompt": "Sky?", "response": "Blue.", "category": {"violence": False}, "is_safe": True},
        [
            Candidate(
                "Sky?", (Answer("Blue."),), (Opinion((1.0,)),), metadata={"category": {"violence": False}}
            )
        ],
    ),
    (
        "cvalues",
        {"prompt": "Sky?", "pos_resp": "Blue.", "neg_resp": "Green.", "pos_type": "x"},
        [pair(metadata={"pos_type": "x"})],
    ),
    (
        "align-anything",
        {
            "question": "Sky?",
            "response_1": "Blue.",
            "response_2": "Green.",
            "response_1_model": "m1",
            "overall_response": 2,
        },
        [Candidate("Sky?", (Answer("Blue.", "m1"), Answer("Green.")), (SECOND,))],
    ),
    (  # HelpSteer2: a prompt of several turns, the first without its tag
        "helpsteer2",
        {
            "prompt": "Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nSky?",
            "response_1": "Blue.",
            "response_2": "Green.",
            "preference_strength": 1,
        },
        [pair([user("Hi"), assistant("Hello"), user("Sky?")], Opinion((0.0, 1.0), strength=1))],
    ),
    (  # the ratings are in another order than the responses
        "code-ultrafeedback",
        {
            "instruction": "Sky?",
            "preference": "code-style",
            "models": ["m1", "m2", "m3"],
            "responses": [
                {"model": "m1", "response": "Blue."},
                {"model": "m2", "response": "Green."},
                {"model": "m3", "response": "Red."},
            ],
            "annotations": [
                {"model": "m2", "rating": "1", "rationale": "No."},
                {"model": "m3", "rating": "N/A", "rationale": None},
                {"model": "m1", "rating": "5", "rationale": "Yes."},
            ],
        },
        [
            Candidate(
                "Sky?",
                (
                    Answer("Blue.", "m1", {"rationale": "Yes."}),
                    Answer("Green.", "m2", {"rationale": "No."}),
                    Answer("Red.", "m3"),
                ),
                (Opinion((5.0, 1.0, None)),),
                metadata={"preference": "code-style"},
            )
        ],
    ),
    (
        "prism",
        {
            "conversation_id": "c1",
            "user_id": "u1",
            "conversation_type": "unguided",
            "conversation_history": [
                {"turn": 0, "role": "user", "content": "Sky?"},
                {**reply(0, "Green.", "m2", 10), "if_chosen": False},
                {**reply(0, "Blue.", "m1", 90), "if_chosen": True},
                {"turn": 1, "role": "user", "content": "Sure?"},
                {**reply(1, "Yes.", "m1", 80), "if_chosen": True},
                {**reply(1, "No.", "m1", 20), "if_chosen": False},
            ],
        },
        [
            Candidate(
                [user("Sky?")],
                (Answer("Green.", "m2"), Answer("Blue.", "m1")),
                (Opinion((10.0, 90.0), annotator="u1"),),
                external_id="c1/0",
                metadata={"conversation_type": "unguided"},
            ),
            Candidate(
                [user("Sky?"), assistant("Blue."), user("Sure?")],
                (Answer("Yes.", "m1"), Answer("No.", "m1")),
                (Opinion((80.0, 20.0), annotator="u1"),),
                external_id="c1/1",
                metadata={"conversation_type": "unguided"},
            ),
        ],
    ),
]
