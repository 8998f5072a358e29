"""Records of crowds whose tools name their columns by what they are for."""

from datetime import UTC, datetime

from annotate.sources.candidates import Opinion
from tests.annotate.sources.cases import Case, pair

AT = datetime(2024, 1, 1, 10, 1, tzinfo=UTC)

CASES: list[Case] = [
    (
        "toloka",
        {
            "INPUT:prompt": "Sky?",
            "INPUT:answer_a": "Blue.",
            "INPUT:answer_b": "Green.",
            "INPUT:topic": "x",
            "OUTPUT:result": "answer_b",
            "OUTPUT:why": "Truer.",
            "GOLDEN:result": "answer_a",
            "HINT:text": "Think.",
            "ASSIGNMENT:task_id": "t1",
            "ASSIGNMENT:worker_id": "w1",
            "ASSIGNMENT:status": "APPROVED",
            "ASSIGNMENT:submitted": "2024-01-01T10:01:00.000",
        },
        [
            pair(
                opinion=Opinion((0.0, 1.0), annotator="w1", rationale="Truer.", at=AT),
                external_id="t1",
                metadata={"topic": "x"},
            )
        ],
    ),
]
