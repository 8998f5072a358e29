"""Judged comparisons as tools of annotation read them: Argilla's records, and Label Studio's tasks."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from annotate.exports.shapes import Row

# Of the ids by which Argilla tells annotators apart.
NAMESPACE = uuid.UUID("5b3f9c1e-6d0a-4f57-9a3e-2c7d8e1f4a60")
LABEL_STUDIO_CONFIG = """\
<View>
  <Text name="prompt" value="$prompt"/>
  <Pairwise name="comparison" toName="answer1,answer2" selectionStyle="border: 2px solid"/>
  <Text name="answer1" value="$answer1"/>
  <Text name="answer2" value="$answer2"/>
  <Choices name="neither" toName="prompt" choice="single">
    <Choice value="tie"/><Choice value="both_bad"/><Choice value="skip"/>
  </Choices>
  <Rating name="strength" toName="prompt" maxRating="3"/>
  <TextArea name="rationale" toName="prompt"/>
</View>
"""


def argilla(row: Row) -> Iterator[Row]:
    """Yield a comparison as a record of Argilla, with a response of each annotator to each question."""
    answers: dict[str, list[Row]] = {}
    for judgment in row["judgments"]:
        user = str(uuid.uuid5(NAMESPACE, judgment["annotator"]))
        said = {
            "preference": {"a": "completion_a", "b": "completion_b"}.get(
                judgment["verdict"], judgment["verdict"]
            ),
            "strength": judgment["strength"],
            "rationale": judgment["rationale"] or None,
        }
        for question, value in said.items():
            if value is not None:
                answers.setdefault(question, []).append({"value": value, "user_id": user})
    yield {
        "id": row["id"] or f"comparison-{row['comparison']}",
        "fields": {name: row[name] for name in ("prompt", "completion_a", "completion_b")},
        "metadata": _flat(row),
        "suggestions": {},
        "responses": answers,
        "vectors": {},
    }


def label_studio(row: Row) -> Iterator[Row]:
    """Yield a comparison as a task of Label Studio, with an annotation of each annotator."""
    answers = {"answer1": row["completion_a"], "answer2": row["completion_b"]}
    yield {
        "data": {"prompt": row["prompt"], **answers, **_flat(row)},
        "annotations": [
            {
                "result": list(_results(judgment)),
                "was_cancelled": judgment["verdict"] == "skip",
                "lead_time": judgment["seconds"],
                "created_at": judgment["at"],
                # Not `completed_by`: an import of Label Studio refuses people whom it does not know.
                "annotator": judgment["annotator"],
            }
            for judgment in row["judgments"]
        ],
    }


def _results(judgment: Row) -> Iterator[Row]:
    verdict = judgment["verdict"]
    if verdict in ("a", "b"):
        selected = {"selected": "left" if verdict == "a" else "right"}
        yield _result("comparison", "answer1,answer2", "pairwise", selected)
    else:
        yield _result("neither", "prompt", "choices", {"choices": [verdict]})
    if judgment["strength"]:
        yield _result("strength", "prompt", "rating", {"rating": judgment["strength"]})
    if judgment["rationale"]:
        yield _result("rationale", "prompt", "textarea", {"text": [judgment["rationale"]]})


def _result(name: str, of: str, kind: str, value: Row) -> Row:
    return {"from_name": name, "to_name": of, "type": kind, "value": value}


def _flat(row: Row) -> Row:
    """Return what a tool shows beside the texts: names of policies, ids, and metadata with plain values."""
    metadata: dict[str, Any] = {**row["prompt_metadata"], **row["metadata"]}
    plain = {
        key: value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    names = ("policy_a", "policy_b", "comparison", "kind", "batch", "held_out", "prompt_external_id")
    own = {name: row[name] for name in (*names, *(["split"] if "split" in row else []))}
    return plain | own | {"external_id": row["id"]}
