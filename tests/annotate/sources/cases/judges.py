"""Benchmarks of judges and of models."""

from datetime import UTC, datetime

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import BLUE_GREEN, SECOND, SKY, TIE, Case, assistant, pair, user

NAMED = (Answer("Blue.", "m1"), Answer("Green.", "m2"))
OUTPUTS = {"output_1": "Blue.", "generator_1": "m1", "output_2": "Green.", "generator_2": "m2"}

ALPACA: list[Case] = [
    (
        "alpaca-eval",
        {
            "instruction": "Sky?",
            **OUTPUTS,
            "annotator": "gpt4",
            "preference": 2,
            "dataset": "vicuna",
            "time_per_example": 1.5,
        },
        [
            Candidate(
                "Sky?",
                NAMED,
                (Opinion((0.0, 1.0), annotator="gpt4"),),
                metadata={"dataset": "vicuna", "time_per_example": 1.5},
            )
        ],
    ),
    (
        "alpaca-eval",
        {"instruction": "Sky?", **OUTPUTS, "annotator_index": 3, "preference": "1.75"},
        [Candidate("Sky?", NAMED, (Opinion((0.25, 0.75), annotator="3"),))],
    ),
    ("alpaca-eval", {"instruction": "Sky?", **OUTPUTS, "preference": 0}, [Candidate("Sky?", NAMED, (TIE,))]),
    ("alpaca-eval", {"instruction": "Sky?", **OUTPUTS, "preference": None}, [Candidate("Sky?", NAMED)]),
    (
        "alpaca-farm",
        {"instruction": "Name it.", "input": "Sky?", "output_1": "Blue.", "output_2": "Green."},
        [Candidate("Name it.\nSky?", BLUE_GREEN)],
    ),
]

BENCHMARKS: list[Case] = [
    (
        "pandalm",
        {
            "idx": 0,
            "motivation_app": "Quora",
            "cmp_key": "m1_m2",
            "instruction": "Sky?",
            "input": "",
            "response1": "Blue.",
            "response2": "Green.",
            "annotator1": 1,
            "annotator2": 2,
            "annotator3": 0,
        },
        [
            Candidate(
                "Sky?",
                NAMED,
                (
                    Opinion((1.0, 0.0), annotator="annotator1"),
                    Opinion((0.0, 1.0), annotator="annotator2"),
                    Opinion((0.5, 0.5), annotator="annotator3"),
                ),
                external_id="0",
                metadata={"motivation_app": "Quora"},
            )
        ],
    ),
    (
        "auto-j",
        {
            "scenario": "open_question",
            "label": 1,
            "prompt": "Sky?",
            "response 1": "Blue.",
            "response 2": "Green.",
        },
        [pair(opinion=SECOND, metadata={"scenario": "open_question"})],
    ),
    (
        "auto-j",
        {
            "scenario": "open_question",
            "label": 2,
            "prompt": "Sky?",
            "response 1": "Blue.",
            "response 2": "Green.",
        },
        [pair(opinion=TIE, metadata={"scenario": "open_question"})],
    ),
    (
        "llmbar",
        {"input": "Sky?", "output_1": "Blue.", "output_2": "Green.", "label": 2},
        [pair(opinion=SECOND)],
    ),
]


def battle(winner: str, **more: object) -> dict[str, object]:
    return {
        **{"question_id": 81, "model_a": "m1", "model_b": "m2", "winner": winner},
        **{
            "conversation_a": [*SKY, assistant("Blue.")],
            "conversation_b": [*SKY, assistant("Green.")],
            **more,
        },
    }


def fought(opinion: Opinion, **more: object) -> Candidate:
    return Candidate(SKY, NAMED, (opinion,), **{"prompt_external_id": "81", "sides_known": True, **more})  # type: ignore[arg-type]


TURNS = {
    "conversation_a": [*SKY, assistant("Blue."), user("Sure?"), assistant("Yes.")],
    "conversation_b": [*SKY, assistant("Green."), user("Sure?"), assistant("No.")],
}
ARENA: list[Case] = [
    (
        "mt-bench-questions",
        {"question_id": 81, "category": "writing", "turns": ["Sky?", "Sure?"]},
        [Candidate("Sky?", external_id="81", metadata={"category": "writing", "turns": ["Sure?"]})],
    ),
    (
        "arena",
        battle("model_a", judge="arena_user_1", turn=1, anony=True, language="English", tstamp=1682351591.0),
        [
            fought(
                Opinion(
                    (1.0, 0.0), annotator="arena_user_1", at=datetime(2023, 4, 24, 15, 53, 11, tzinfo=UTC)
                ),
                metadata={"turn": 1, "anony": True, "language": "English"},
            )
        ],
    ),
    ("arena", battle("tie"), [fought(TIE)]),
    (
        "arena",
        battle("tie (bothbad)", judge=["gpt-4", "pair-v2"]),
        [fought(Opinion(verdict="both_bad", annotator="gpt-4/pair-v2"))],
    ),
    (
        "arena",
        battle("model_b", judge="expert_0", turn=1, **TURNS),
        [fought(Opinion((0.0, 1.0), annotator="expert_0"), metadata={"turn": 1})],
    ),
    (
        "arena",
        battle("model_b", judge="expert_0", turn=2, **TURNS),
        [
            Candidate(
                SKY,
                (
                    Answer([assistant("Blue."), user("Sure?"), assistant("Yes.")], "m1"),
                    Answer([assistant("Green."), user("Sure?"), assistant("No.")], "m2"),
                ),
                (Opinion((0.0, 1.0), annotator="expert_0"),),
                metadata={"turn": 2},
                prompt_external_id="81",
                sides_known=True,
            )
        ],
    ),
    (
        "arena-columns",
        {
            "id": 30192,
            "model_a": "m1",
            "model_b": "m2",
            "prompt": '["Sky?"]',
            "response_a": '["Blue."]',
            "response_b": '["Green."]',
            "winner_model_a": "0",
            "winner_model_b": "0",
            "winner_tie": "1",
        },
        [Candidate(SKY, NAMED, (TIE,), external_id="30192", sides_known=True)],
    ),
]

CASES = [*ALPACA, *BENCHMARKS, *ARENA]
