"""The warm process: one request a line, each answered as `sample` would, and neither errors nor stops end it."""

import json
import os
from itertools import count

from training.engine import serve
from training.engine.rundir import write_jsonl
from training.engine.sample import load_native, sample
from training.engine.serve import Desk, Requests


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


def test_a_request_stops_at_its_own_strings_alone(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 40, "seed": 3, "temperature": 2.0})
    config = json.loads(run.config_file.read_text())
    said: list[dict] = []
    desk = Desk(said.append)

    def ask(*stop: str) -> str:
        sampling = config["sampling"] | {"stop": list(stop)}
        request = {"config": config | {"sampling": sampling}, "prompt": "the film was"}
        desk.answer(json.dumps(request).encode())
        return said[-1]["sample"]["completion"]

    whole = ask()
    middle = whole[len(whole) // 2]
    cut = whole.partition(middle)[0]
    desk.kept.clear()
    assert [ask(middle), ask(), ask(middle)] == [cut, whole, cut]


def test_a_cut_answer_has_the_log_probability_of_the_rest(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 40, "samples_per_prompt": 1, "seed": 3, "temperature": 2.0})
    write_jsonl(run.prompts, [{"id": "1", "prompt": "the film was"}])
    sample(run)
    whole = json.loads(run.samples.read_text())["completion"]
    config = json.loads(run.config_file.read_text())
    config["sampling"]["stop"] = [whole[len(whole) // 2]]
    run.config_file.write_text(json.dumps(config))
    sample(run)
    said: list[dict] = []
    Desk(said.append).answer(json.dumps({"config": config, "prompt": "the film was"}).encode())
    assert said[-1]["sample"] == json.loads(run.samples.read_text())


def test_each_answer_is_checked_until_one_was_right(make_run, make_adapter, monkeypatch) -> None:
    other, load = make_adapter("other", 1), load_native
    monkeypatch.setattr(
        "training.engine.serve.load_native",
        lambda config, adapter, *, chats: (load(config, adapter)[0], load(config, other)[1]),
    )
    run = make_run(sampling={"max_new_tokens": 10, "seed": 3}, start_adapter=str(make_adapter("trained", 2)))
    request = json.dumps({"config": json.loads(run.config_file.read_text()), "prompt": "the film was"})
    said: list[dict] = []
    desk = Desk(said.append)
    for _twice in range(2):
        desk.answer(request.encode())
        assert "The model does not write what it scores" in said[-1].get("error", "")


def test_longer_answers_than_those_checked_are_checked(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 1, "seed": 3})
    config = json.loads(run.config_file.read_text())
    said: list[dict] = []
    desk = Desk(said.append)
    for tokens, checked in ((1, 1), (8, 8), (2, 8)):
        sampling = config["sampling"] | {"max_new_tokens": tokens}
        desk.answer(json.dumps({"config": config | {"sampling": sampling}, "prompt": "the film"}).encode())
        assert "sample" in said[-1]
        assert [one.checked for one in desk.kept.values()] == [checked]


def test_a_stop_ends_the_answer_and_keeps_the_policy(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 40, "seed": 3, "temperature": 2.0})
    request = {"config": json.loads(run.config_file.read_text()), "prompt": "the film was"}
    line, said = json.dumps(request).encode(), []
    Desk(said.append).answer(line)
    expected, tokens = said[-1], count()
    stopped: list[dict] = []
    desk = Desk(stopped.append, pace=0, wants_stop=lambda: next(tokens) == 5)
    desk.answer(line)
    assert stopped[-1] == {"stopped": True}
    assert 1 < sum(one.get("phase") == "writing" for one in stopped) < 6
    desk.answer(line)
    assert stopped[-1] == expected
    assert stopped.count({"phase": "loading"}) == 1


def test_lines_are_read_whole_and_in_order() -> None:
    source, sink = os.pipe()
    with Requests(source) as requests, os.fdopen(sink, "wb", buffering=0) as asked:
        assert requests.wait(0) is None
        asked.write(b'{"stop": true}\nfirst\nsec')
        assert requests.wait(0) == b"first\n"
        assert not requests.wants_stop()
        asked.write(b'ond\n{"stop": tr')
        assert not requests.wants_stop()
        assert requests.wait(0) == b"second\n"
        assert not requests.wants_stop()
        asked.write(b'ue}\n{"stop": true, "prompt": ""}\nlast')
        assert requests.wants_stop()
        assert not requests.wants_stop()
        assert requests.wait(0) == b'{"stop": true, "prompt": ""}\n'
        asked.close()
        assert not requests.wants_stop()
        assert [requests.wait(0), requests.wait(0)] == [b"last", None]


def test_the_rest_of_a_long_line_is_not_a_request(monkeypatch) -> None:
    monkeypatch.setattr(serve, "LONGEST_REQUEST", 10)
    source, sink = os.pipe()
    with Requests(source) as requests, os.fdopen(sink, "wb", buffering=0) as asked:
        asked.write(b"123456789\n" + b"x" * 15)
        assert requests.wait(0) == b"123456789\n"
        assert requests.wait(0) == b"x" * 10
        assert requests.wait(0) is None
        asked.write(b"x" * 25)
        assert not requests.wants_stop()
        asked.write(b"x\nnext\n" + b"y" * 10 + b"\nlast")
        assert requests.wait(0) == b"next\n"
        assert requests.wait(0) == b"y" * 10
        asked.close()
        assert requests.wait(0) == b"last"
        assert requests.wait(0) is None
