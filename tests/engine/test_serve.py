"""The warm process: one request a line, each answered as `sample` would, and an error ends nothing."""

import json

from training.engine.rundir import write_jsonl
from training.engine.sample import sample
from training.engine.serve import Desk


def test_answers_are_those_of_sample_and_errors_end_nothing(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 6, "samples_per_prompt": 1, "seed": 3})
    chat = [{"role": "user", "content": "good film"}]
    write_jsonl(run.prompts, [{"id": "1", "prompt": "the film was"}])
    sample(run)
    expected = json.loads(run.samples.read_text())
    config = json.loads(run.config_file.read_text())
    said: list[dict] = []
    desk = Desk(said.append)
    for request in (
        json.dumps({"config": config, "prompt": "the film was"}),
        "not JSON",
        json.dumps({"config": config | {"base_model": "/nowhere"}, "prompt": "x"}),
        json.dumps({"config": config | {"sampling": {"max_new_tokens": 2}}, "prompt": chat}),
        json.dumps({"config": config, "prompt": "the film was"}),
    ):
        desk.answer(request.encode())
    ends = [one for one in said if "sample" in one or "error" in one]
    assert ends[0]["sample"] == ends[4]["sample"] == expected
    assert ends[1]["error"] == "A request is one JSON object a line, with config and prompt."
    assert "/nowhere does not exist" in ends[2]["error"]
    assert len(ends[3]["sample"]["token_ids"]) <= 2
    assert sum(one == {"phase": "loading"} for one in said) == 3  # plain, nowhere, chat: the last one is warm


def test_the_text_so_far_is_said_and_grows_into_the_sample(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 40, "seed": 3, "temperature": 2.0})
    said: list[dict] = []
    request = {"config": json.loads(run.config_file.read_text()), "prompt": "the film was"}
    Desk(said.append, pace=0).answer(json.dumps(request).encode())
    texts = [one["text"] for one in said if one.get("phase") == "writing"]
    completion = said[-1]["sample"]["completion"]
    assert len(texts) >= len(said[-1]["sample"]["token_ids"])
    assert len(set(texts)) > 3
    for one, later in zip(texts, [*texts[1:], completion], strict=True):
        assert later.startswith(one)


def test_parts_are_said_as_seldom_as_the_pace_wants(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 40, "seed": 3})
    said: list[dict] = []
    request = {"config": json.loads(run.config_file.read_text()), "prompt": "the film was"}
    Desk(said.append, pace=3600).answer(json.dumps(request).encode())
    assert [one["share"] < 0.2 for one in said if one.get("phase") == "writing"] == [True]
