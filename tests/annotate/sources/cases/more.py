"""Records of trainers, judges and tools that are in use beside the great ones."""

from typing import Any

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import (
    BLUE_GREEN,
    FIRST,
    SECOND,
    SKY,
    TIE,
    Case,
    assistant,
    pair,
    system,
    user,
)

LOSS = ("Images, sound and video are taken only where they are written into the text as data URIs",)
PAIR = {"prompt": "Sky?", "response_a": "Blue.", "response_b": "Green."}
RATED = [
    {"Help": {"Rating": "5"}, "Truth": {"Rating": 4}},
    {"Help": {"Rating": "1"}, "Truth": {"Rating": "N/A"}},
]
OPTIONS = [{"id": 0, "text": "Blue."}, {"id": 1, "text": "Green."}]
OPTION_ANSWERS = (Answer("Blue.", metadata={"id": 0}), Answer("Green.", metadata={"id": 1}))


def in_turn(speaker: str, text: str) -> dict[str, Any]:
    return {"from": speaker, "content": text}


CASES: list[Case] = [
    (  # ColossalChat
        "llama-factory-sharegpt",
        {
            "context": [in_turn("user", "Sky?")],
            "chosen": [in_turn("assistant", "Blue.")],
            "rejected": [in_turn("assistant", "Green.")],
        },
        [pair(SKY)],
    ),
    (
        "step-dpo",
        {
            "prompt": "Sky?",
            "initial_reason_steps": "Look up. ",
            "chosen": "It is blue.",
            "rejected": "It is green.",
            "full_chosen": "Look up. It is blue. Done.",
        },
        [
            Candidate(
                "Sky?",
                (Answer("Look up. It is blue."), Answer("Look up. It is green.")),
                (FIRST,),
                metadata={"full_chosen": "Look up. It is blue. Done."},
            )
        ],
    ),
    (
        "trl",
        {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green.", "history": [["Hi", "Hello."]]},
        [pair([user("Hi"), assistant("Hello."), *SKY])],
    ),
    (
        "paddle",
        {"src": ["Hi", "Sky?"], "tgt": ["Hello."], "response": [["Green."], ["Blue."]], "sort": [0, 1]},
        [
            Candidate(
                [user("Hi"), assistant("Hello."), *SKY],
                BLUE_GREEN[::-1],
                (SECOND,),
            )
        ],
    ),
    (
        "paddle",
        {"system": "Short.", "src": "Sky?", "tgt": "", "response": ["Blue.", "Green."], "sort": [1, 0]},
        [pair([system("Short."), *SKY])],
    ),
    (
        "vertex-rlhf",
        {"input_text": "Sky?", "candidate_0": "Blue.", "candidate_1": "Green.", "choice": 1},
        [pair(opinion=SECOND)],
    ),
    (
        "vertex-rlhf",
        {"messages": SKY, "candidate_0": "Blue.", "candidate_1": "Green.", "choice": "0"},
        [pair(SKY)],
    ),
    (
        "autosxs",
        {
            "id": 5,
            "inference_instruction": "Answer.",
            "inference_context": "Sky?",
            "response_a": "Blue.",
            "response_b": "Green.",
            "choice": "B",
            "explanation": "Truer.",
            "confidence": 0.9,
        },
        [
            pair(
                "Answer.\nSky?",
                Opinion((0.0, 1.0), rationale="Truer."),
                external_id="5",
                metadata={"confidence": 0.9},
            )
        ],
    ),
    (
        "vertex-pairwise",
        {
            "prompt": "Sky?",
            "response": "Green.",
            "baseline_model_response": "Blue.",
            "fluency/pairwise_choice": "CANDIDATE",
            "fluency/explanation": "Truer.",
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "baseline"), Answer("Green.", "candidate")),
                (Opinion((0.0, 1.0), annotator="fluency", rationale="Truer."),),
            )
        ],
    ),
    (
        "vertex-pairwise",
        {
            "prompt": "Sky?",
            "response": "Green.",
            "baseline_model_response": "Blue.",
            "fluency/pairwise_choice": "ERROR",
        },
        [Candidate("Sky?", (Answer("Blue.", "baseline"), Answer("Green.", "candidate")))],
    ),
    (
        "mt-bench-questions",
        {"question_id": 1, "text": "Sky?", "category": "generic"},
        [Candidate("Sky?", external_id="1", metadata={"category": "generic"})],
    ),
    (
        "mt-bench-questions",
        {"question_id": "q", "cluster": "x", "turns": [{"content": "Sky?"}, {"content": "Why?"}]},
        [Candidate("Sky?", external_id="q", metadata={"cluster": "x", "turns": ["Why?"]})],
    ),
    (  # OffsetBias
        "llmbar",
        {"instruction": "Sky?", "output_1": "Blue.", "output_2": "Green.", "label": 2},
        [pair(opinion=SECOND)],
    ),
    (
        "gpt-4-llm",
        {
            "user_input": "Sky?",
            "responses_and_scores": [
                {"response": "Blue.", "source": "m1", "score": 9.0},
                {"response": "Green.", "source": "m2", "score": 3},
            ],
        },
        [Candidate("Sky?", (Answer("Blue.", "m1"), Answer("Green.", "m2")), (Opinion((9.0, 3.0)),))],
    ),
    (
        "fine-grained-rlhf",
        {
            "question": "Sky?",
            **{f"prediction {number}": str(number) for number in range(1, 5)},
            "preference": [0, 1, 2, 1, 0, 2],
        },
        [
            Candidate("Sky?", (Answer(one), Answer(other)), (said,))
            for one, other, said in (
                ("1", "2", TIE),
                ("1", "3", FIRST),
                ("1", "4", SECOND),
                ("2", "3", FIRST),
                ("2", "4", TIE),
                ("3", "4", SECOND),
            )
        ],
    ),
    (
        "rlhf-v",
        {
            "text": '{"question": "Sky?", "chosen": "Blue.", "rejected": "Green."}',
            "image_path": "x.jpg",
            "idx": 3,
        },
        [pair(metadata={"image_path": "x.jpg", "idx": 3})],
    ),
    (
        "vlfeedback",
        {
            "id": 1,
            "prompt": "Sky?",
            "models": ["m1", "m2"],
            "completions": {"annotations": RATED, "model": ["m1", "m2"], "response": ["Blue.", "Green."]},
            "image": "x.jpg",
        },
        [
            Candidate(
                "Sky?",
                (
                    Answer("Blue.", "m1", {"annotations": RATED[0]}),
                    Answer("Green.", "m2", {"annotations": RATED[1]}),
                ),
                (Opinion((5.0, 1.0)),),
                external_id="1",
                metadata={"image": "x.jpg"},
                losses=LOSS,
            )
        ],
    ),
    (
        "prodigy",
        {
            "text": "Sky?",
            "options": OPTIONS,
            "accept": [1],
            "answer": "accept",
            "_input_hash": 1,
            "_view_id": "choice",
            "_session_id": "db-alice",
        },
        [Candidate("Sky?", OPTION_ANSWERS, (Opinion((0.0, 1.0), annotator="db-alice"),))],
    ),
    (
        "prodigy",
        {
            "text": "Sky?",
            "options": [*OPTIONS, {"id": 2, "text": "Grey."}],
            "accept": [1],
            "answer": "accept",
        },
        [
            Candidate(
                "Sky?",
                (*OPTION_ANSWERS, Answer("Grey.", metadata={"id": 2})),
                (Opinion((0.0, 1.0, 0.0), names_best=True),),
            )
        ],
    ),
    (
        "prodigy",
        {"input": {"prompt": "Sky?"}, "options": OPTIONS, "accept": [], "answer": "ignore", "topic": "x"},
        [Candidate("Sky?", OPTION_ANSWERS, (Opinion(verdict="skip"),), metadata={"topic": "x"})],
    ),
    (
        "side-by-side-raters",
        {**PAIR, "Rater 1": "B", "Rater 2": "", "Rater 3": "tie", "topic": "x"},
        [
            Candidate(
                "Sky?",
                BLUE_GREEN,
                (
                    Opinion((0.0, 1.0), annotator="Rater 1"),
                    Opinion((0.5, 0.5), annotator="Rater 3"),
                ),
                metadata={"topic": "x"},
            )
        ],
    ),
    (
        "side-by-side-raters",
        {**PAIR, "model_a": "m1", "model_b": "m2", "ann_eve": "m2", "ann_bob": "Response A"},
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "m1"), Answer("Green.", "m2")),
                (
                    Opinion((0.0, 1.0), annotator="ann_eve"),
                    Opinion((1.0, 0.0), annotator="ann_bob"),
                ),
            )
        ],
    ),
    (
        "preferred-rejected",
        {"instruction": "Name it.", "input": "Sky?", "accepted": "It is blue.", "rejected": "It is green."},
        [Candidate("Name it.\nSky?", (Answer("It is blue."), Answer("It is green.")), (FIRST,))],
    ),
    (
        "preferred-rejected",
        {"question": "Sky?", "losing_answer": "It is green.", "winning_answer": "It is blue.", "topic": "x"},
        [
            Candidate(
                "Sky?", (Answer("It is blue."), Answer("It is green.")), (FIRST,), metadata={"topic": "x"}
            )
        ],
    ),
    (
        "preferred-rejected",
        {"prompt": SKY, "preferred": [assistant("Blue.")], "dispreferred": [assistant("Green.")]},
        [pair(SKY)],
    ),
]
