"""Ratings of each text, and what annotators said in other ways that their tools write."""

from typing import Any

import pytest

from annotate.sources.candidates import Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS
from annotate.sources.formats.tools.side_by_side import Rating, read_ratings

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


def rate(numbers: dict[str, Any]) -> tuple[Opinion | None, list[str]]:
    opinion, others = read_ratings([Rating(*said) for said in numbers.items()], NAMES)
    return opinion, [rating.question for rating in others]


def test_ratings_belong_to_the_text_that_they_name() -> None:
    assert rate({"response-1 rating": 2, "response-10 rating": 5}) == (Opinion((2.0, 5.0)), [])
    assert rate({"quality-10": "5", "quality-1": 2}) == (Opinion((2.0, 5.0)), [])
    assert rate({"helpfulness-1": 2}) == (Opinion((2.0, None)), [])


def test_one_aspect_of_several_is_an_opinion_if_it_is_overall() -> None:
    aspects = {"truth-1": 1, "truth-10": 2}
    assert rate({**aspects, "style-1": 2, "style-10": 1}) == (
        None,
        ["truth-1", "truth-10", "style-1", "style-10"],
    )
    assert rate({**aspects, "overall-1": 2, "overall-10": 1}) == (Opinion((2.0, 1.0)), [*aspects])
    assert rate({**aspects, "rating-1": 2, "rating-10": 1}) == (Opinion((2.0, 1.0)), [*aspects])
    assert rate({"toxic-1": 1, "toxic-10": 5, "q-1": 2, "q-10": 1})[0] == Opinion((2.0, 1.0))


def test_ranks_and_numbers_of_nothing_are_not_ratings() -> None:
    assert rate({"rank-1": 1, "rank-10": 2})[0] is None
    assert rate({"quality": 3, "age-7": 30})[0] is None
    assert rate({"rating-1": 3, "score-1": 2, "rating-10": 1, "score-10": 5})[0] is None
    assert rate({}) == (None, [])


@pytest.mark.parametrize(
    "aspect",
    [
        *(
            "toxicity",
            "toxicity_rating",
            "error_rate",
            "rejected_score",
            "worst",
            "less helpful",
            "unhelpful",
        ),
        *("rank_score", "verbosity", "incorrect", "corrections", "overall toxicity", "dislike", "best_rank"),
    ],
)
def test_a_rating_of_which_less_may_be_better_is_not_read(aspect: str) -> None:
    assert rate({f"{aspect}-1": 5, f"{aspect}-10": 1})[0] is None


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("mturk", {**MTURK, "Answer.toxicity_rating_a": "5", "Answer.toxicity_rating_b": "1"}),
        ("mturk", {**MTURK, "Answer.error_rate_a": 5, "Answer.error_rate_b": 1}),
        ("mturk", {**MTURK, "Answer.response_accuracy_rating": 5}),
        ("toloka", {**TOLOKA, "OUTPUT:rejected_score_a": 5, "OUTPUT:rejected_score_b": 1}),
        ("label-studio-flat", {**TEXTS, **ABOUT, "worst_a": stars(5), "worst_b": stars(1)}),
        ("label-studio-flat", {**TEXTS, **ABOUT, "toxicity_a": stars(5), "toxicity_b": stars(1)}),
        ("argilla", {"fields": TEXTS, "responses": [{"values": {"toxicity-a": 5, "toxicity-b": 1}}]}),
    ],
)
def test_a_tools_ratings_of_what_is_bad_are_refused(name: str, record: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        read(name, record)


# --- Several ratings ---------------------------------------------------------------------------------------------


def annotate(*ratings: tuple[str, str, int]) -> dict[str, Any]:
    result = [
        {"type": "rating", "from_name": question, "to_name": of, "value": {"rating": number}}
        for question, of, number in ratings
    ]
    return {"data": TEXTS, "annotations": [{"result": result}]}


@pytest.mark.parametrize("aspect", ["toxicity", "rank", "worse"])
def test_stars_of_a_text_are_read_by_their_question(aspect: str) -> None:
    with pytest.raises(RecordError, match="exactly once"):
        read("label-studio", annotate((aspect, "response_a", 5), (aspect, "response_b", 1)))
    good = annotate(("helpfulness1", "response_a", 5), ("helpfulness2", "response_b", 1))
    assert read("label-studio", good).scores == (5.0, 1.0)


def test_two_aspects_of_one_text_are_not_mixed() -> None:
    helpful = ("helpful", "response_a", 5), ("helpful", "response_b", 1)
    harmless = ("harmless", "response_a", 1), ("harmless", "response_b", 5)
    with pytest.raises(RecordError, match="exactly once"):
        read("label-studio", annotate(*helpful, *harmless))
    opinion = read(
        "label-studio", annotate(*helpful, ("overall", "response_a", 3), ("overall", "response_b", 4))
    )
    assert opinion.scores == (3.0, 4.0)
    assert opinion.rationale == "helpful (response_a): 5\nhelpful (response_b): 1"


def test_other_aspects_are_the_rationale() -> None:
    clarity = ("clarity_a", "prompt", 1), ("clarity_b", "prompt", 2)
    rate = ("rate", "response_a", 5), ("rate", "response_b", 1)
    overall = ("overall_a", "prompt", 5), ("overall_b", "prompt", 1)
    for main in (rate, overall):
        opinion = read("label-studio", annotate(*main, *clarity))
        assert (opinion.scores, opinion.rationale) == ((5.0, 1.0), "clarity_a: 1\nclarity_b: 2")
    toloka = {**TOLOKA, "OUTPUT:overall_a": "5", "OUTPUT:overall_b": "1", "OUTPUT:style_rating_a": 3}
    assert read("toloka", toloka).rationale == "style_rating_a: 3"


def test_other_aspects_in_columns_are_metadata() -> None:
    clarity = {"clarity_rating_a": stars(1), "clarity_rating_b": stars(2)}
    record = {**TEXTS, **ABOUT, "overall_a": stars(5), "overall_b": stars(1), **clarity}
    [candidate] = BY_NAME["label-studio-flat"].rows(record)
    assert candidate.opinions[0].scores == (5.0, 1.0)
    assert candidate.metadata == clarity
    ratings = {f"{name}_rating_{side}": "1" for name in ("overall", "clarity") for side in "ab"}
    [candidate] = BY_NAME["mturk"].rows(MTURK | {f"Answer.{key}": value for key, value in ratings.items()})
    assert candidate.metadata == {key: "1" for key in ratings if "clarity" in key}


def ask(**said: int) -> dict[str, Any]:
    texts = {"prompt": "Sky?", "response-1": "Green.", "response-2": "Blue."}
    return {"fields": texts, "responses": [{"values": {key.replace("_", "-"): n for key, n in said.items()}}]}


@pytest.mark.parametrize(
    ("said", "scores"),
    [
        ({"prefer_response_1": 1, "prefer_response_2": 5}, (1.0, 5.0)),
        ({"best_response_1": 4, "best_response_2": 2}, (4.0, 2.0)),
        ({"preference_1": 1, "preference_2": 5}, (1.0, 5.0)),
        ({"how_much_do_you_prefer_response_1": 5, "how_much_do_you_prefer_response_2": 1}, (5.0, 1.0)),
        ({"preference_1": 2}, (0.0, 1.0)),
        ({"preference": 2}, (0.0, 1.0)),
        ({"best_of_2": 1}, (1.0, 0.0)),
    ],
    ids=str,
)
def test_a_number_under_a_question_of_one_text_is_a_rating(
    said: dict[str, int], scores: tuple[float, ...]
) -> None:
    assert read("argilla", ask(**said)).scores == scores


def test_two_numbers_that_may_be_those_of_texts_are_refused() -> None:
    with pytest.raises(RecordError, match="exactly once"):
        read("argilla", ask(preference_1=1, preference_2=2))


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
