"""Annotation tools, also as Whetstone writes their files."""

from datetime import UTC, datetime

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import BLUE_GREEN, SKY, Case, assistant, pair

AT = datetime(2024, 5, 1, 10, tzinfo=UTC)
DATA = {"prompt": "Sky?", "answer1": "Blue.", "answer2": "Green."}
ITEMS = {
    "prompt": "Sky?",
    "items": [{"id": "m1", "title": "M1", "body": "Blue."}, {"id": "m2", "title": "M2", "body": "Green."}],
}
BY_ITEM = (Answer("Blue.", "M1", {"id": "m1"}), Answer("Green.", "M2", {"id": "m2"}))


def annotation(*results: dict[str, object], **more: object) -> dict[str, object]:
    return {
        "id": 4,
        "completed_by": 2,
        "result": list(results),
        "was_cancelled": False,
        "lead_time": 12.5,
        "created_at": "2024-05-01T10:00:00.000Z",
        **more,
    }


def result(kind: str, to_name: str = "txt", **value: object) -> dict[str, object]:
    return {"type": kind, "from_name": "c", "to_name": to_name, "value": value}


def by_two(scores: tuple[float, float], rationale: str = "") -> Opinion:
    return Opinion(scores, "", "2", None, rationale, 12.5, AT)


LABEL_STUDIO: list[Case] = [
    ("label-studio", {"data": DATA}, [Candidate("Sky?", BLUE_GREEN)]),
    (
        "label-studio",
        {
            "id": 3,
            "data": DATA | {"topic": "x"},
            "annotations": [
                annotation(result("pairwise", selected="right"), result("textarea", text=["Truer."])),
                annotation(was_cancelled=True),
            ],
            "predictions": [],
        },
        [
            pair(
                opinion=by_two((0.0, 1.0), "Truer."),
                external_id="3",
                metadata={"topic": "x"},
                sides_known=True,
            )
        ],
    ),
    (
        "label-studio",
        {
            "data": DATA,
            "annotations": [
                annotation(
                    result("choices", choices=["Answer 1"]), completed_by={"id": 2, "email": "a@b.org"}
                )
            ],
        },
        [pair(opinion=Opinion((1.0, 0.0), annotator="a@b.org", seconds=12.5, at=AT))],
    ),
    (
        "label-studio",
        {"data": DATA, "annotations": [annotation(result("choices", choices=["Both bad"]))]},
        [pair(opinion=Opinion(verdict="both_bad", annotator="2", seconds=12.5, at=AT))],
    ),
    (
        "label-studio",
        {
            "data": DATA,
            "annotations": [
                annotation(result("rating", "answer1", rating=2), result("rating", "answer2", rating=5))
            ],
        },
        [pair(opinion=by_two((2.0, 5.0)))],
    ),
    (
        "label-studio",
        {"data": ITEMS, "annotations": [annotation(result("ranker", ranker={"rank": ["m2", "m1"]}))]},
        [Candidate("Sky?", BY_ITEM, (by_two((0.0, 1.0)),))],
    ),
    (
        "label-studio-flat",
        {
            "id": 3,
            **DATA,
            "annotator": 2,
            "annotation_id": 4,
            "created_at": "2024-05-01T10:00:00Z",
            "updated_at": "2024-05-01T10:00:00Z",
            "lead_time": 12.5,
            "better": [{"selected": "left"}],
        },
        [pair(opinion=by_two((1.0, 0.0)), external_id="3", sides_known=True)],
    ),
    (
        "label-studio-flat",
        {
            "id": "3",
            **DATA,
            "annotator": "2",
            "annotation_id": "4",
            "created_at": "2024-05-01T10:00:00Z",
            "updated_at": "",
            "lead_time": "12.5",
            "better": "Answer 2",
            "why": "Truer.",
        },
        [pair(opinion=by_two((0.0, 1.0)), external_id="3", metadata={"why": "Truer."})],
    ),
    (
        "label-studio-ranker",
        {"task": "Rank.", **ITEMS},
        [Candidate("Sky?", BY_ITEM, metadata={"task": "Rank."})],
    ),
]

FIELDS = {"prompt": "Sky?", "response-1": "Blue.", "response-2": "Green."}
BY_USERS = (
    Opinion((0.0, 1.0), annotator="u1", rationale="Truer, I think."),
    Opinion((1.0, 0.0), annotator="u2"),
)
ARGILLA: list[Case] = [
    (
        "argilla",
        {
            "id": "r1",
            "fields": FIELDS,
            "metadata": {"topic": "x"},
            "suggestions": {},
            "responses": {
                "best": [{"value": "response-2", "user_id": "u1"}, {"value": "response-1", "user_id": "u2"}],
                "why": [{"value": "Truer, I think.", "user_id": "u1"}],
            },
        },
        [Candidate("Sky?", BLUE_GREEN, BY_USERS, external_id="r1", metadata={"topic": "x"})],
    ),
    (
        "argilla",
        {
            "fields": FIELDS,
            "external_id": "r1",
            "responses": [
                {
                    "user_id": "u1",
                    "status": "submitted",
                    "values": {
                        "order": {
                            "value": [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]
                        }
                    },
                },
                {"user_id": "u3", "status": "discarded", "values": {}},
            ],
        },
        [pair(opinion=Opinion((0.0, 1.0), annotator="u1"), external_id="r1")],
    ),
    (
        "argilla-flat",
        {
            "id": "r1",
            "status": "completed",
            "_server_id": "s",
            **FIELDS,
            "best.responses": ["response-2", "response-1", "response-1"],
            "best.responses.users": ["u1", "u2", "u3"],
            "best.responses.status": ["submitted", "submitted", "draft"],
            "why.responses": ["Truer, I think."],
            "why.responses.users": ["u1"],
            "why.responses.status": ["submitted"],
        },
        [Candidate("Sky?", BLUE_GREEN, BY_USERS, external_id="r1")],
    ),
    (
        "argilla-flat",
        {**FIELDS, "best": [{"user_id": "u1", "value": 2, "status": "submitted"}], "external_id": "r1"},
        [pair(opinion=Opinion((0.0, 1.0), annotator="u1"), external_id="r1")],
    ),
]

ARGILLA += [
    (  # fields that are chats, and a ranking of three with a tie between two
        "argilla",
        {
            "fields": {
                "prompt": SKY,
                "text-1": [assistant("Blue.")],
                "text-2": "Green.",
                "text-3": "Azure.",
            },
            "responses": {
                "best": [
                    {"value": "tie", "user_id": "u1"},
                    {"value": ["text-3", "text-1"], "user_id": "u2"},
                ]
            },
        },
        [
            Candidate(
                SKY,
                (*BLUE_GREEN, Answer("Azure.")),
                (
                    Opinion((0.5, 0.5, 0.5), annotator="u1"),
                    Opinion((0.0, None, 1.0), annotator="u2"),
                ),
            )
        ],
    ),
]

ARGILLA += [
    (  # a rating for each text, and what a model suggested
        "argilla",
        {
            "fields": FIELDS,
            "suggestions": {"best": {"value": "response-1", "agent": "m"}},
            "responses": {
                "response-1-rating": [{"value": 2, "user_id": "u1"}],
                "response-2-rating": [{"value": 5, "user_id": "u1"}],
            },
        },
        [
            pair(
                opinion=Opinion((2.0, 5.0), annotator="u1"),
                metadata={"suggestions": {"best": {"value": "response-1", "agent": "m"}}},
            )
        ],
    ),
]

HIT = {
    "HITId": "h1",
    "HITTypeId": "t",
    "Title": "Compare",
    "AssignmentId": "a1",
    "WorkerId": "w1",
    "WorkTimeInSeconds": "40",
    "Input.prompt": "Sky?",
    "Input.response_a": "Blue.",
    "Input.model_a": "m1",
    "Input.response_b": "Green.",
    "Input.model_b": "m2",
}
BY_WORKER = (Answer("Blue.", "m1"), Answer("Green.", "m2"))
CROWDS: list[Case] = [
    (
        "mturk",
        {**HIT, "Answer.choice": "response_b", "Answer.why": "Truer."},
        [
            Candidate(
                "Sky?",
                BY_WORKER,
                (Opinion((0.0, 1.0), annotator="w1", rationale="Truer.", seconds=40.0),),
                external_id="h1",
            )
        ],
    ),
    (
        "mturk",
        {**HIT, "Answer.choice.a": "true", "Answer.choice.b": "false"},
        [
            Candidate(
                "Sky?", BY_WORKER, (Opinion((1.0, 0.0), annotator="w1", seconds=40.0),), external_id="h1"
            )
        ],
    ),
    (
        "mturk",
        {**HIT, "Answer.taskAnswers": '[{"choice": {"a": false, "tie": true}}]'},
        [
            Candidate(
                "Sky?", BY_WORKER, (Opinion((0.5, 0.5), annotator="w1", seconds=40.0),), external_id="h1"
            )
        ],
    ),
    (
        "potato",
        {
            "user_id": "u1",
            "instance_id": "i1",
            "displayed_text": "Sky?<br>A. Blue.<br>B. Green.",
            "label_annotations": {"better": {"B": "true"}, "why": {"text_box": "Truer."}},
            "span_annotations": [],
            "behavioral_data": {"time_spent": 12.5},
        },
        [
            pair(
                "Sky?",
                Opinion((0.0, 1.0), annotator="u1", rationale="Truer.", seconds=12.5),
                external_id="i1",
            )
        ],
    ),
    (
        "potato",
        {
            "user": "u1",
            "instance_id": "i1",
            "prompt": "Sky?",
            "response_a": "Blue.",
            "response_b": "Green.",
            "better:::A is slightly better": "1",
            "better:::tie": "",
        },
        [pair(opinion=Opinion((1.0, 0.0), annotator="u1", strength=1), external_id="i1")],
    ),
]

CROWDS += [
    (
        "potato",
        {
            **{"user_id": "u1", "id": "i1", "prompt": "Sky?", "text_a": "Blue.", "text_b": "Green."},
            **{
                "label_annotations": {
                    "better": {"scale_value": "-2", "justification": '{"rationale": "Truer."}'}
                }
            },
        },
        [pair(opinion=Opinion((1.0, 0.0), annotator="u1", strength=2, rationale="Truer."), external_id="i1")],
    ),
]

BESIDE = {"policy_a": "m1", "policy_b": "m2"}
BY_POLICY = (Answer("Blue.", "m1"), Answer("Green.", "m2"))
EXPORTS: list[Case] = [
    (
        "label-studio",
        {
            "data": {**DATA, **BESIDE, "external_id": "c5", "prompt_external_id": "p9"},
            "annotations": [
                {
                    **{"annotator": "annotator-1", "was_cancelled": False, "lead_time": None},
                    "result": [result("choices", choices=["tie"])],
                },
                {
                    "annotator": "annotator-2",
                    "result": [
                        result("pairwise", selected="left"),
                        {
                            "type": "rating",
                            "from_name": "strength",
                            "to_name": "prompt",
                            "value": {"rating": 3},
                        },
                        result("choices", choices=["Truer", "Short"]),
                    ],
                },
            ],
        },
        [
            Candidate(
                "Sky?",
                BY_POLICY,
                (
                    Opinion((0.5, 0.5), annotator="annotator-1"),
                    Opinion((1.0, 0.0), annotator="annotator-2", strength=3, rationale="c: Truer, Short"),
                ),
                external_id="c5",
                prompt_external_id="p9",
            )
        ],
    ),
    (
        "argilla",
        {
            "id": "c5",
            "fields": {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green."},
            "metadata": BESIDE,
            "responses": {
                "preference": [
                    {"value": "completion_b", "user_id": "u1"},
                    {"value": "both_bad", "user_id": "u2"},
                ],
                "strength": [{"value": 2, "user_id": "u1"}],
            },
        },
        [
            Candidate(
                "Sky?",
                BY_POLICY,
                (
                    Opinion((0.0, 1.0), annotator="u1", strength=2),
                    Opinion(verdict="both_bad", annotator="u2"),
                ),
                external_id="c5",
                metadata=BESIDE,
            )
        ],
    ),
]

CASES = [*LABEL_STUDIO, *ARGILLA, *CROWDS, *EXPORTS]
