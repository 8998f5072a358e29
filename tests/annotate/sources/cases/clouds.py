"""Records of clouds' preference tuning, and of trainers with columns of their own."""

from typing import Any

from tests.annotate.sources.cases import SECOND, SKY, Case, assistant, pair, system, user


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"text": text} for text in texts]


def nova(first: str, second: str) -> dict[str, Any]:
    candidates = [
        {"content": said("Blue."), "preferenceLabel": first},
        {"content": said("Green."), "preferenceLabel": second},
    ]
    asked = {"role": "user", "content": said("Sky?")}
    return {"messages": [asked, {"role": "assistant", "candidates": candidates}]}


def completion(text: str, score: float) -> dict[str, Any]:
    return {"score": score, "completion": {"role": "model", "parts": said(text)}}


CASES: list[Case] = [
    (
        "nova",
        {
            "schemaVersion": "bedrock-conversation-2024",
            "system": said("Be short."),
            **nova("preferred", "non-preferred"),
        },
        [pair([system("Be short."), *SKY])],
    ),
    ("nova", nova("non-preferred", "preferred"), [pair(SKY, SECOND)]),
    (
        "gemini",
        {
            "system_instruction": {"role": "system", "parts": said("Be short.")},
            "contents": [
                {"role": "user", "parts": said("Hi")},
                {"role": "model", "parts": said("Hello")},
                {"role": "user", "parts": said("Sky?")},
            ],
            "completions": [completion("Blue.", 0), completion("Green.", 1)],
        },
        [pair([system("Be short."), user("Hi"), assistant("Hello"), *SKY], SECOND)],
    ),
    (
        "gemini",
        {
            "contents": [{"role": "user", "parts": said("Sky?")}],
            "completions": [completion("Blue.", 1.0), completion("Green.", 0.0)],
        },
        [pair(SKY)],
    ),
    (
        "torchtune",
        {
            "chosen_conversations": [*SKY, assistant("Blue.")],
            "rejected_conversations": [*SKY, assistant("Green.")],
        },
        [pair(SKY)],
    ),
    (
        "medical-gpt",
        {
            "system": "",
            "history": [["Hi", "Hello"]],
            "question": "Sky?",
            "response_chosen": "Blue.",
            "response_rejected": "Green.",
        },
        [pair([user("Hi"), assistant("Hello"), *SKY])],
    ),
    (  # a table, where lists are JSON
        "medical-gpt",
        {
            "question": "Sky?",
            "response_chosen": "Blue.",
            "response_rejected": "Green.",
            "history": '[["Hi", "Hello"]]',
        },
        [pair([user("Hi"), assistant("Hello"), *SKY])],
    ),
]
