"""Published collections."""

from datetime import UTC, datetime

from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.sources.cases import BLUE_GREEN, SECOND, SKY, Case, assistant, pair, user

RATINGS: list[Case] = [
    (
        "ultrafeedback",
        {
            "source": "sharegpt",
            "instruction": "Sky?",
            "models": ["m1", "m2"],
            "completions": [
                {
                    "model": "m1",
                    "response": "Blue.",
                    "overall_score": 10.0,
                    "annotations": {"honesty": {"Rating": "5"}, "truthfulness": {"Rating": "4"}},
                },
                {
                    "model": "m2",
                    "response": "Green.",
                    "fine-grained_score": 2.25,
                    "annotations": {"honesty": {"Rating": "N/A"}},
                },
            ],
        },
        [
            Candidate(
                "Sky?",
                (
                    Answer(
                        "Blue.",
                        "m1",
                        {
                            "overall_score": 10.0,
                            "annotations": {"honesty": {"Rating": "5"}, "truthfulness": {"Rating": "4"}},
                        },
                    ),
                    Answer(
                        "Green.",
                        "m2",
                        {"fine-grained_score": 2.25, "annotations": {"honesty": {"Rating": "N/A"}}},
                    ),
                ),
                (Opinion((4.5, 2.25)),),
                metadata={"source": "sharegpt"},
            )
        ],
    ),
    (
        "nectar",
        {
            "prompt": "\n\nHuman: Sky?\n\nAssistant: ",
            "answers": [
                {"answer": "Blue.", "model": "m1", "rank": 1.0},
                {"answer": "Green.", "model": "m2", "rank": 3.0},
                {"answer": "Azure.", "model": "m3", "rank": 1.0},
            ],
            "turns": 1,
        },
        [
            Candidate(
                SKY,
                (Answer("Blue.", "m1"), Answer("Green.", "m2"), Answer("Azure.", "m3")),
                (Opinion((1.0, 0.0, 1.0)),),
                metadata={"turns": 1},
            )
        ],
    ),
    (
        "distilabel",
        {
            "instruction": "Sky?",
            "generations": ["Blue.", "Green."],
            "generation_models": ["m1", "m2"],
            "ratings": [5, None],
            "rationales": ["True.", ""],
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "m1", {"rationale": "True."}), Answer("Green.", "m2", {"rationale": ""})),
                (Opinion((5.0, None)),),
            )
        ],
    ),
    (
        "completions-by-model",
        {
            "id": "t1",
            "prompt": "Sky?",
            "completions": [{"model": "m1", "completion": "Blue."}, {"model": "m2", "completion": "Green."}],
        },
        [Candidate("Sky?", (Answer("Blue.", "m1"), Answer("Green.", "m2")), external_id="t1")],
    ),
    (
        "helpsteer",
        {
            "prompt": "Sky?",
            "response": "Blue.",
            "helpfulness": 4,
            "correctness": 3,
            "coherence": 4,
            "complexity": 1,
            "verbosity": 1,
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue."),),
                (Opinion((4.0,)),),
                metadata={
                    "helpfulness": 4,
                    "correctness": 3,
                    "coherence": 4,
                    "complexity": 1,
                    "verbosity": 1,
                },
            )
        ],
    ),
    (
        "multipref",
        {
            "comparison_id": "c1",
            "prompt_id": "p1",
            "text": "Sky?",
            "completion_a": "Blue.",
            "model_a": "m1",
            "completion_b": "Green.",
            "model_b": "m2",
            "normal_worker_annotations": [
                {
                    "evaluator": "n1",
                    "overall_pref": "A-is-clearly-better",
                    "helpful_pref": "Tie",
                    "timestamp": "2024-05-01T10:00:00+00:00",
                },
                {"evaluator": "n2", "overall_pref": "Tie", "timestamp": "in May"},
                {"evaluator": "n3", "helpful_pref": "Tie"},
            ],
            "expert_worker_annotations": [{"evaluator": "e1", "overall_pref": "B-is-slightly-better"}],
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "m1"), Answer("Green.", "m2")),
                (
                    Opinion((1.0, 0.0), annotator="n1", strength=3, at=datetime(2024, 5, 1, 10, tzinfo=UTC)),
                    Opinion((0.5, 0.5), annotator="n2"),
                    Opinion((0.0, 1.0), annotator="e1", strength=1),
                ),
                external_id="c1",
                metadata={
                    "prompt_id": "p1",
                    "normal_worker_annotations": [
                        {"helpful_pref": "Tie"},
                        {"timestamp": "in May"},
                        {"evaluator": "n3", "helpful_pref": "Tie"},
                    ],
                    "expert_worker_annotations": [{}],
                },
            )
        ],
    ),
    (
        "helpsteer2",
        {
            "prompt": "Sky?",
            "response_1": "Blue.",
            "response_2": "Green.",
            "preference_strength": -2,
            "preference_statement": "One is right.",
            "preference_elaboration": "It is blue.",
            "split": "train",
        },
        [
            pair(
                opinion=Opinion((1.0, 0.0), strength=2, rationale="One is right. It is blue."),
                metadata={"split": "train"},
            )
        ],
    ),
    (
        "helpsteer2",
        {
            "prompt": "Sky?",
            "response_1": "Blue.",
            "response_2": "Green.",
            "preference_strength": -100,
            "preference_statement": "Neither is right.",
        },
        [pair(opinion=Opinion(verdict="both_bad", rationale="Neither is right."))],
    ),
    (
        "helpsteer3",
        {
            "domain": "general",
            "context": SKY,
            "response1": "Blue.",
            "response2": "Green.",
            "overall_preference": 1,
            "individual_preference": [
                {"score": 3, "reasoning": "Richer."},
                {"score": 0, "reasoning": "Same."},
            ],
        },
        [
            Candidate(
                SKY,
                BLUE_GREEN,
                (
                    Opinion((0.0, 1.0), annotator="1", strength=3, rationale="Richer."),
                    Opinion((0.5, 0.5), annotator="2", rationale="Same."),
                ),
                metadata={"domain": "general"},
            )
        ],
    ),
]

THREADS: list[Case] = [
    (
        "stack-exchange",
        {"qid": 5, "question": "Sky?", "response_j": "Blue.", "response_k": "Green.", "date": "2020"},
        [pair(external_id="5", metadata={"date": "2020"})],
    ),
    (
        "stack-exchange",
        {
            "qid": 5,
            "question": "Sky?",
            "answers": [
                {"answer_id": 1, "pm_score": 4, "text": "Blue."},
                {"answer_id": 2, "pm_score": -1, "text": "Green."},
            ],
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", metadata={"answer_id": 1}), Answer("Green.", metadata={"answer_id": 2})),
                (Opinion((4.0, -1.0)),),
                external_id="5",
            )
        ],
    ),
    (
        "shp",
        {
            "post_id": "x1",
            "domain": "askphysics",
            "history": "Sky?",
            "human_ref_A": "Blue.",
            "human_ref_B": "Green.",
            "labels": 0,
            "score_A": 3,
            "score_B": 9,
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", metadata={"score": 3}), Answer("Green.", metadata={"score": 9})),
                (SECOND,),
                prompt_external_id="x1",
                metadata={"domain": "askphysics"},
            )
        ],
    ),
    (
        "webgpt",
        {
            "question": {"id": "q1", "full_text": "Sky?"},
            "answer_0": "Blue.",
            "answer_1": "Green.",
            "score_0": 0.5,
            "score_1": -0.5,
        },
        [
            pair(
                opinion=Opinion((0.5, -0.5)),
                prompt_external_id="q1",
                metadata={"question": {"id": "q1", "full_text": "Sky?"}},
            )
        ],
    ),
    (
        "safe-rlhf",
        {
            "prompt": "Sky?",
            "response_0": "Blue.",
            "response_1": "Green.",
            "response_0_source": "m1",
            "response_1_source": "m2",
            "is_response_0_safe": True,
            "is_response_1_safe": True,
            "better_response_id": 1,
            "safer_response_id": 0,
        },
        [
            Candidate(
                "Sky?",
                (Answer("Blue.", "m1"), Answer("Green.", "m2")),
                (SECOND,),
                metadata={"is_response_0_safe": True, "is_response_1_safe": True, "safer_response_id": 0},
            )
        ],
    ),
]

SUMMARIES: list[Case] = [
    (
        "summarize-from-feedback",
        {
            "info": {
                "id": "t3",
                "post": "It was blue.",
                "title": "Sky",
                "subreddit": "weather",
                "site": None,
                "article": None,
            },
            "summaries": [
                {"text": "Blue.", "policy": "sup1", "note": "short"},
                {"text": "Green.", "policy": "sup2", "note": None},
            ],
            "choice": 1,
            "worker": "w1",
            "batch": "b1",
            "split": "train",
            "extra": {"confidence": 7},
        },
        [
            Candidate(
                "SUBREDDIT: r/weather\n\nTITLE: Sky\n\nPOST: It was blue.\n\nTL;DR:",
                (Answer("Blue.", "sup1", {"note": "short"}), Answer("Green.", "sup2")),
                (Opinion((0.0, 1.0), annotator="w1", strength=2),),
                metadata={"batch": "b1", "split": "train", "extra": {"confidence": 7}},
                prompt_external_id="t3",
            )
        ],
    ),
    (
        "summarize-axis",
        {
            "info": {"id": "cnn1", "article": "It was blue.", "title": "Sky", "site": "cnn"},
            "summary": {"text": "Blue.", "policy": "ref", "axes": {"overall": 6}},
            "worker": "w1",
            "split": "test",
        },
        [
            Candidate(
                "TITLE: Sky\n\nIt was blue.\n\nTL;DR:",
                (Answer("Blue.", "ref", {"axes": {"overall": 6}}),),
                (Opinion((6.0,), annotator="w1"),),
                metadata={"split": "test", "info": {"site": "cnn"}},
                prompt_external_id="cnn1",
            )
        ],
    ),
]


def reply(name: str, text: str, role: str = "assistant", **more: object) -> dict[str, object]:
    return {"message_id": name, "text": text, "role": role, "lang": "en", "replies": [], **more}


TREE = {
    "message_tree_id": "p",
    "tree_state": "ready_for_export",
    "prompt": reply(
        "p",
        "Sky?",
        "prompter",
        replies=[
            reply("g", "Green.", rank=1, model_name="m2"),
            reply(
                "b",
                "Blue.",
                rank=0,
                replies=[reply("q", "Sure?", "prompter", replies=[reply("y", "Yes.", rank=None)])],
            ),
            reply("x", "Gone.", rank=2, deleted=True),
        ],
    ),
}
OF_TREE = {"message_tree_id": "p", "tree_state": "ready_for_export", "lang": "en"}


def english(name: str) -> dict[str, str]:
    return {"message_id": name, "lang": "en"}


TREES: list[Case] = [
    (
        "oasst",
        TREE,
        [
            Candidate(
                SKY,
                (Answer("Green.", "m2", english("g")), Answer("Blue.", metadata=english("b"))),
                (Opinion((0.0, 1.0)),),
                prompt_external_id="p",
                prompt_metadata=OF_TREE,
            ),
            Candidate(
                [*SKY, assistant("Blue."), user("Sure?")],
                (Answer("Yes.", metadata=english("y")),),
                prompt_external_id="q",
                prompt_metadata=OF_TREE,
            ),
        ],
    ),
]

CASES = [*RATINGS, *THREADS, *SUMMARIES, *TREES]
