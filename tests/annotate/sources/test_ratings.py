"""Ratings of each text, and what annotators said in other ways that their tools write."""

from typing import Any

import pytest

from annotate.sources.candidates import Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS
from annotate.sources.formats.tools.side_by_side import read_ratings

pytestmark = pytest.mark.once  # files, which no database sees

BY_NAME = {format.name: format for format in FORMATS}
TEXTS = {"prompt": "Sky?", "response_a": "Green.", "response_b": "Blue."}
ABOUT = {"annotation_id": 1, "annotator": 2, "lead_time": 3.0, "id": 4}
MTURK = {"HITId": "h", "WorkerId": "w", **{f"Input.{key}": text for key, text in TEXTS.items()}}
TOLOKA = {"ASSIGNMENT:worker_id": "w", **{f"INPUT:{key}": text for key, text in TEXTS.items()}}


def read(name: str, record: dict[str, Any]) -> Opinion:
    [found] = BY_NAME[name].rows(record)
    [opinion] = found.opinions
    return opinion


def stars(number: int) -> list[dict[str, Any]]:
    return [{"rating": number, "to_name": ["x"]}]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("label-studio-flat", {**TEXTS, **ABOUT, "rating_a": stars(2), "rating_b": stars(5)}),
        (
            "label-studio",
            {
                "data": TEXTS,
                "annotations": [
                    {
                        "result": [
                            {
                                "type": "rating",
                                "from_name": f"q_{side}",
                                "to_name": "t",
                                "value": {"rating": n},
                            }
                            for side, n in (("a", 2), ("b", 5))
                        ]
                    }
                ],
            },
        ),
        ("mturk", {**MTURK, "Answer.rating_a": "2", "Answer.rating_b": "5"}),
        ("toloka", {**TOLOKA, "OUTPUT:response_a_quality": "2", "OUTPUT:response_b_quality": "5"}),
        (
            "argilla-flat",
            {
                **TEXTS,
                **{
                    f"rating-{side}": [{"user_id": "u", "value": number, "status": "submitted"}]
                    for side, number in (("a", 2), ("b", 5))
                },
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rating_of_each_text_is_an_opinion(name: str, record: dict[str, Any]) -> None:
    assert read(name, record).scores == (2.0, 5.0)


NAMES = ("response-1", "response-10")


def test_ratings_belong_to_the_text_that_they_name() -> None:
    assert read_ratings({"response-1 rating": 2, "response-10 rating": 5}, NAMES) == Opinion((2.0, 5.0))
    assert read_ratings({"quality-10": "5", "quality-1": 2}, NAMES) == Opinion((2.0, 5.0))
    assert read_ratings({"quality-1": 2}, NAMES) == Opinion((2.0, None))


def test_one_aspect_of_several_is_an_opinion_if_it_is_overall() -> None:
    aspects = {"truth-1": 1, "truth-10": 2}
    assert read_ratings({**aspects, "style-1": 2, "style-10": 1}, NAMES) is None
    assert read_ratings({**aspects, "overall-1": 2, "overall-10": 1}, NAMES) == Opinion((2.0, 1.0))


def test_ranks_and_numbers_of_nothing_are_no_ratings() -> None:
    assert read_ratings({"rank-1": 1, "rank-10": 2}, NAMES) is None
    assert read_ratings({"quality": 3, "age-7": 30}, NAMES) is None
    assert read_ratings({}, NAMES) is None


@pytest.mark.parametrize(
    "said", [{"rating_a": 2, "rating_b": 5}, {"best": 2}, {"rank": {"x": ["a", "b"]}}], ids=str
)
def test_a_flat_annotation_that_is_not_understood_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="is not a verdict that is known"):
        read("label-studio-flat", {**TEXTS, **ABOUT, **said})


def test_the_annotations_of_the_first_label_studio_are_read() -> None:
    result = {"type": "pairwise", "from_name": "pw", "to_name": "x", "value": {"selected": "right"}}
    record = {"id": 1, "data": TEXTS, "completions": [{"id": 2, "result": [result]}]}
    assert read("label-studio", record).scores == (0.0, 1.0)


def test_a_ranking_in_columns_is_a_ranking() -> None:
    ranking = {"rank": [2, 1], "value": ["response_a", "response_b"]}
    record = {**TEXTS, "preference": [{"user_id": "u", "value": ranking, "status": "submitted"}]}
    assert read("argilla-flat", record) == Opinion((0.0, 1.0), annotator="u")


def test_the_worst_text_of_potato_is_not_the_best() -> None:
    record = {**TEXTS, "user_id": "u", "label_annotations": {"pick": {"worst": "response_a"}}}
    with pytest.raises(RecordError, match="“worst” names the worse completion"):
        read("potato", record)
