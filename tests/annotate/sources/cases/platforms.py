"""Records of evaluation platforms and arenas: what people and judges said of replies side by side."""

import json
from datetime import UTC, datetime
from typing import Any

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.formats.judges.arena_votes import pseudonym
from tests.annotate.sources.cases import BLUE_GREEN, FIRST, SECOND, SKY, TIE, Case, assistant, user

NAMED = (Answer("Blue.", "m1"), Answer("Green.", "m2"))


# --- Amazon ------------------------------------------------------------------------------------------------------


def of_worker(worker: str, **results: Any) -> dict[str, Any]:
    return {
        "answerContent": {"evaluationResults": results},
        "submissionTime": "2024-06-07T22:32:19Z",
        "timeSpentInSeconds": 22.5,
        "workerId": worker,
    }


def of_amazon(*answers: dict[str, Any], text: str = "text", **more: Any) -> dict[str, Any]:
    ids = {"0": "m2", "1": "m1"}
    return {
        "humanEvaluationResult": {
            "humanAnswers": [*answers],
            "modelResponseIdMap": ids,
            "humanLoopName": "h",
        },
        "inputRecord": {"prompt": {"text": "Sky?"}, "category": "x"},
        "modelResponses": [
            {text: "Blue.", "modelIdentifier": "m1"},
            {text: "Green.", "modelIdentifier": "m2"},
        ],
        **more,
    }


def each(metric: str, first: Any, second: Any) -> list[dict[str, Any]]:
    """Return the ratings of two responses, of which the first has the number 1."""
    return [
        {"metricName": metric, "modelResponseId": "1", "result": first},
        {"metricName": metric, "modelResponseId": "0", "result": second},
    ]


AT = datetime(2024, 6, 7, 22, 32, 19, tzinfo=UTC)
CHOSEN = [{"metricName": "Overall", "result": {"modelResponseId": "0"}}]
RANKED = [
    {
        "metricName": "Preference",
        "result": [{"modelResponseId": "0", "rank": 2}, {"modelResponseId": "1", "rank": 1}],
    }
]
AMAZON: list[Case] = [
    (
        "sagemaker",
        of_amazon(
            of_worker("w1", comparisonChoice=CHOSEN, individualLikertScale=each("Fluency", 4, 2)),
            of_worker("w2", comparisonRank=RANKED),
        ),
        [
            Candidate(
                "Sky?",
                NAMED,
                (
                    Opinion((0.0, 1.0), "", "w1", None, "Fluency (1): 4\nFluency (0): 2", 22.5, AT),
                    Opinion((-1.0, -2.0), "", "w2", None, "", 22.5, AT),
                ),
                metadata={"category": "x"},
            )
        ],
    ),
    (  # Bedrock
        "sagemaker",
        of_amazon(
            text="response",
            inputRecord={"prompt": "Sky?"},
            humanEvaluationResult=[
                {"humanAnswers": [of_worker("w1", thumbsUpDown=each("Accuracy", True, False))]}
            ],
            modelResponseIdMap={"0": "m2", "1": "m1"},
        ),
        [Candidate("Sky?", NAMED, (Opinion((1.0, 0.0), "", "w1", None, "", 22.5, AT),))],
    ),
]


# --- Open WebUI --------------------------------------------------------------------------------------------------


def of_open_webui(rating: Any, rated: str, siblings: Any, **data: Any) -> dict[str, Any]:
    messages = {
        "q": {"id": "q", "parentId": None, "childrenIds": ["a", "b"], "role": "user", "content": "Sky?"},
        "a": {"id": "a", "parentId": "q", "role": "assistant", "content": "Blue.", "model": "m1"},
        "b": {"id": "b", "parentId": "q", "role": "assistant", "content": "Green.", "model": "m2"},
    }
    return {
        "id": "f",
        "user_id": "u",
        "version": 0,
        "type": "rating",
        "data": {"rating": rating, "model_id": "m1", "sibling_model_ids": siblings, **data},
        "meta": {"message_id": rated, "arena": True, "chat_id": "c"},
        "snapshot": {"chat": {"chat": {"history": {"messages": messages, "currentId": "b"}}}},
        "updated_at": 1717799539,
    }


OPEN_WEBUI: list[Case] = [
    (
        "open-webui",
        of_open_webui(-1, "b", ["m1"], reason="inaccurate", comment="No."),
        [
            Candidate(
                SKY,
                NAMED,
                (Opinion((1.0, 0.0), "", "u", None, "inaccurate\nNo.", None, AT),),
                external_id="f",
                metadata={"arena": True, "chat_id": "c"},
            )
        ],
    ),
    (
        "open-webui",
        of_open_webui("1", "a", None, tags=["x"]),
        [
            Candidate(
                SKY,
                NAMED[:1],
                (Opinion((1.0,), "", "u", None, "", None, AT),),
                external_id="f",
                metadata={"tags": ["x"], "arena": True, "chat_id": "c"},
            )
        ],
    ),
]


# --- Others ------------------------------------------------------------------------------------------------------


def state(answer: str, model: str) -> dict[str, Any]:
    said = [["USER", "Example?"], ["USER", "Sky?"], ["ASSISTANT", answer]]
    return {"roles": ["USER", "ASSISTANT"], "messages": said, "offset": 1, "model_name": model}


def vote(kind: str) -> dict[str, Any]:
    return {
        "tstamp": 1717799539,
        "type": kind,
        "models": ["", ""],
        "states": [state("Blue.", "m1"), state("Green.", "m2")],
        "ip": "192.0.2.1",
    }


VOTER = pseudonym("192.0.2.1")
WILD = {
    "session_id": "s",
    "history": "USER: Hi\n\nASSISTANT: Hello\n\n",
    "last_query": "Sky?",
    "model_output": ["Green."],
    "generator": "m2",
    "ref_output": "Blue.",
    "ref_generator": "m1",
    "assignment": {"A": "m1", "B": "m2"},
    "eval_config": {"mode": "pairwise", "gpt": "judge"},
    "prompt": "Compare them …",
    "result": "{}",
}


def in_kili(code: str, first: str, second: str) -> dict[str, Any]:
    items = (("USER", "Sky?", None), ("ASSISTANT", "Blue.", "m1"), ("ASSISTANT", "Green.", "m2"))
    return {
        "chatItems": [
            {"role": role, "content": text, "externalId": str(number), "modelName": model}
            for number, (role, text, model) in enumerate(items)
        ],
        "externalId": "e",
        "label": {
            "conversation": {"TRANSCRIPTION_JOB": {"text": "Why."}},
            "round": {"COMPARISON_JOB": {"0": {"code": code, "firstId": first, "secondId": second}}},
        },
        "labeler": "maria",
        "metadata": {},
    }


def labelled(text: str, label: str) -> dict[str, Any]:
    return {"answer": {"role": "assistant", "content": text, "label": {"preference": label}}, "steps": None}


MIXED = {
    "id": "x/1",
    "instruction": "",
    "input": "Sky?",
    "candidates": [
        {"model": "m1", "text": "Blue.", "scores": {"bleu": 1.0}},
        {"model": "m2", "text": "Green."},
        {"model": "m3", "text": "Grey."},
    ],
}
OTHERS: list[Case] = [
    (
        "arena-votes",
        vote("rightvote"),
        [Candidate(SKY, NAMED, (Opinion((0.0, 1.0), annotator=VOTER, at=AT),), sides_known=True)],
    ),
    (
        "arena-votes",
        vote("bothbad_vote"),
        [Candidate(SKY, NAMED, (Opinion((), "both_bad", VOTER, at=AT),), sides_known=True)],
    ),
    (
        "wildbench",
        {**WILD, "parsed_result": {"choice": "A++", "reason": "Why."}},
        [
            Candidate(
                [user("Hi"), assistant("Hello"), *SKY],
                NAMED,
                (Opinion((1.0, 0.0), "", "judge", 3, "Why."),),
                external_id="s",
                sides_known=True,
            )
        ],
    ),
    (
        "wildbench",
        {**WILD, "history": "", "result": '{"choice": "A=B"}'},
        [Candidate("Sky?", NAMED, (TIE._replace(annotator="judge"),), external_id="s", sides_known=True)],
    ),
    (
        "kili",
        in_kili("Is much better", "2", "1"),
        [
            Candidate(
                SKY,
                NAMED,
                (Opinion((0.0, 1.0), "", "maria", 3, "Why."),),
                external_id="e",
                metadata={"metadata": {}},
            )
        ],
    ),
    (
        "prodigy-compare",
        {
            "id": 1,
            "input": {"text": "Sky?"},
            "accept": {"text": "Green."},
            "reject": {"text": "Blue."},
            "mapping": {"A": "reject", "B": "accept"},
            "answer": "accept",
            "_session_id": "alice",
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "A"), Answer("Green.", "B")),
                (SECOND._replace(annotator="alice"),),
                external_id="1",
            )
        ],
    ),
    (
        "rm-gallery",
        {
            "unique_id": "x",
            "input": SKY,
            "output": [labelled("Blue.", "chosen"), labelled("Green.", "rejected")],
        },
        [Candidate(SKY, BLUE_GREEN, (FIRST,), external_id="x")],
    ),
    (
        "mix-instruct",
        {**MIXED, "cmp_results": json.dumps({"m2,m1": "B is better", "m1,m3": "Same bad"})},
        [
            Candidate("Sky?", NAMED[::-1], (SECOND,), external_id="x/1/m2,m1", prompt_external_id="x/1"),
            Candidate(
                "Sky?",
                (NAMED[0], Answer("Grey.", "m3")),
                (Opinion(verdict="both_bad"),),
                external_id="x/1/m1,m3",
                prompt_external_id="x/1",
            ),
        ],
    ),
]

CASES = AMAZON + OPEN_WEBUI + OTHERS
