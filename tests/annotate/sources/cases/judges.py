"""Benchmarks of judges and of models."""

from datetime import UTC, datetime
from typing import Any

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import BLUE_GREEN, FIRST, SECOND, SKY, TIE, Case, assistant, pair, user


def in_parts(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text, "image": None, "mimeType": None}]}


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
    (
        "alpaca-eval",
        {"instruction": "Sky?", **OUTPUTS, "preference": 1.5},
        [Candidate("Sky?", NAMED, (TIE,))],
    ),
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


def battle(winner: str | None, **more: object) -> dict[str, object]:
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
TWO_TURNS = (
    Answer([assistant("Blue."), user("Sure?"), assistant("Yes.")], "m1"),
    Answer([assistant("Green."), user("Sure?"), assistant("No.")], "m2"),
)
IN_TURN = {"user": user("Sky?"), "model_side_a": assistant("Blue."), "model_side_b": assistant("Green.")}
EARLIER = ("The turns before the judged ones, which other models answered, have no place in a comparison",)
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
    (  # Search Arena: half of its chats have no vote
        "arena",
        battle(None, judge="ab12", timestamp="2025-03-18T16:39:00"),
        [Candidate(SKY, NAMED, prompt_external_id="81", sides_known=True)],
    ),
    (  # LMArena: a second vote in one chat, for which other models were drawn
        "arena",
        battle("both_bad", evaluation_order=2, full_conversation=[IN_TURN, IN_TURN]),
        [
            fought(
                Opinion(verdict="both_bad"),
                metadata={"evaluation_order": 2, "full_conversation": [IN_TURN, IN_TURN]},
                losses=EARLIER,
            )
        ],
    ),
    (
        "arena",
        battle("model_b", evaluation_order=1, full_conversation=[IN_TURN]),
        [fought(SECOND, metadata={"evaluation_order": 1, "full_conversation": [IN_TURN]})],
    ),
    (  # two turns of the same two models
        "arena",
        battle("model_b", evaluation_order=1, full_conversation=[IN_TURN, IN_TURN], **TURNS),
        [
            Candidate(
                SKY,
                TWO_TURNS,
                (SECOND,),
                metadata={"evaluation_order": 1, "full_conversation": [IN_TURN, IN_TURN]},
                prompt_external_id="81",
                sides_known=True,
            )
        ],
    ),
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
                TWO_TURNS,
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

REWARD_MODELS: list[Case] = [
    (  # RewardBench 2: one chosen answer, three rejected ones
        "reward-bench",
        {
            "id": "7",
            "prompt": "Sky?",
            "chosen": ["Blue."],
            "rejected": ["Green.", "Red."],
            "models": ["m1", "m2", "m3"],
            "subset": "Factuality",
            "additional_metadata": None,
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "m1"), Answer(text, model)),
                (FIRST,),
                external_id=external_id,
                metadata={"subset": "Factuality"},
                prompt_external_id="7",
            )
            for text, model, external_id in (("Green.", "m2", "7/1-2"), ("Red.", "m3", "7/1-3"))
        ],
    ),
    (  # RM-Bench: chosen ones are not compared with each other
        "reward-bench",
        {"prompt": "Sky?", "chosen": ["Blue.", "Azure."], "rejected": ["Green."]},
        [pair(), Candidate("Sky?", (Answer("Azure."), Answer("Green.")), (FIRST,))],
    ),
    (
        "reward-bench",
        {"id": 1, "prompt": "Sky?", "chosen": "Blue.", "rejected": ["Green."]},
        [pair(external_id="1")],
    ),
    (
        "prometheus",
        {
            "orig_criteria": "Is it true?",
            "orig_instruction": "Sky?",
            "orig_response_A": "Blue.",
            "orig_response_B": "Green.",
            "orig_preference": "B",
            "instruction": "###Task Description: …",
            "input": "",
            "output": "It is. [RESULT] B",
        },
        [
            pair(
                opinion=SECOND,
                metadata={
                    "orig_criteria": "Is it true?",
                    "instruction": "###Task Description: …",
                    "input": "",
                    "output": "It is. [RESULT] B",
                },
            )
        ],
    ),
    (
        "judgelm",
        {
            "question_id": 0,
            "question_body": "Sky?",
            "answer1_body": "Blue.",
            "answer1_model_id": "m1",
            "answer2_body": "Green.",
            "answer2_model_id": "m2",
            "score": [9.0, 4.0],
            "text": "9 4",
        },
        [Candidate("Sky?", NAMED, (Opinion((9.0, 4.0)),), external_id="0", metadata={"text": "9 4"})],
    ),
    (  # the judge's words could not be read
        "judgelm",
        {"question_body": "Sky?", "answer1_body": "Blue.", "answer2_body": "Green.", "score": [-1, -1]},
        [Candidate("Sky?", BLUE_GREEN)],
    ),
    (  # Search Arena
        "arena",
        {
            "model_a": "m1",
            "model_b": "m2",
            "winner": "model_b",
            "judge": "j1",
            "turn": 1,
            "timestamp": "2025-04-01 10:00:00",
            "messages_a": [*SKY, assistant("Blue.")],
            "messages_b": [*SKY, assistant("Green.")],
        },
        [
            Candidate(
                SKY,
                NAMED,
                (Opinion((0.0, 1.0), annotator="j1", at=datetime(2025, 4, 1, 10, tzinfo=UTC)),),
                metadata={"turn": 1},
                sides_known=True,
            )
        ],
    ),
    (  # Chatbot Arena of 2025: a message is a list of one text, and a winner may be a model's name
        "arena",
        {
            "id": "u1",
            "model_a": "m1",
            "model_b": "m2",
            "winner": "m2",
            "conversation_a": [in_parts("user", "Sky?"), in_parts("assistant", "Blue.")],
            "conversation_b": [in_parts("user", "Sky?"), in_parts("assistant", "Green.")],
        },
        [Candidate(SKY, NAMED, (SECOND,), external_id="u1", sides_known=True)],
    ),
]

ARENA += [
    (
        "opencompass",
        {
            "origin_prompt": [{"role": "HUMAN", "prompt": "…"}],
            "prediction": "B is truer: [[A<B]]. So I end with [[A<B]].",
            "gold": {
                "capability": "qa", "question": "Sky?",
                "answer1": "m1", "answer2": "m2", "prediction1": "Blue.", "prediction2": "Green.",
            },
        },
        [
            Candidate(
                "Sky?",
                NAMED,
                (Opinion((0.0, 1.0), rationale="B is truer: [[A<B]]. So I end with [[A<B]]."),),
                metadata={"capability": "qa"},
                sides_known=True,
            )
        ],
    ),
]  # fmt: skip

CASES = [*ALPACA, *BENCHMARKS, *ARENA, *REWARD_MODELS]
