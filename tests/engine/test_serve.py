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
