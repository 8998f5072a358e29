"""Records that say something twice: a model, the id of a prompt, an image."""

from typing import Any

import pytest

from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS, find_format


def read(name: str, record: dict[str, Any]) -> list[Any]:
    [found] = [each for each in FORMATS if each.name == name]
    return list(found.rows(record))


def test_ratings_of_a_repeated_model_are_refused() -> None:
    responses = [{"model": "m", "response": "x"}, {"model": "n", "response": "y"}]
    ratings = [{"model": "m", "rating": 5}, {"model": "n", "rating": 1}, {"model": "m", "rating": 2}]
    with pytest.raises(RecordError, match="names a model twice"):
        read("code-ultrafeedback", {"instruction": "q", "responses": responses, "annotations": ratings})


def test_pairs_of_a_list_keep_the_id_of_their_prompt() -> None:
    record = {"id": "12", "prompt": "q", "chosen": ["x"], "rejected": ["y", "z"]}
    found = read("reward-bench", record)
    assert [(one.external_id, one.prompt_external_id) for one in found] == [
        ("12/1-2", "12"),
        ("12/1-3", "12"),
    ]


def test_an_image_under_two_keys_is_taken_once() -> None:
    image = "data:image/png;base64,AAAA"
    record = {"prompt": "q", "chosen": "x", "rejected": "y", "image": image, "images": [image]}
    found = find_format([record])
    assert found is not None
    [candidate] = found.rows(record)
    assert str(candidate.prompt).count(image) == 1
