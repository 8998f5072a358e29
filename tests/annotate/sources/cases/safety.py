"""Records of collections about safety, values and help."""

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import SECOND, Case, assistant, pair, user

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
]
