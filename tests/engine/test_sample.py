"""The verb `sample`: prompts.jsonl in, samples.jsonl out, by the policy that the configuration names."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from tests.engine.conftest import make_tokenizer
from training.engine.__main__ import main
from training.engine.adapters.loading import has_adapter, load_sampled, load_scored
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.errors import ConfigError, DataError, ModelError
from training.engine.identity import digest
from training.engine.model.base import load_base
from training.engine.records import SamplingPrompt
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.sample import _Progress, sample, seed_of
from training.engine.sampling.decoding import Generation
from training.engine.sampling.grouping import Request
from training.engine.sampling.stopping import decode

PROMPTS = [
    {"id": "a", "prompt": "the film was"},
    {"id": 7, "prompt": "it"},
    {"id": "c", "prompt": "bad and good"},
]


@pytest.fixture
def sampled(make_run):
    """Sample in a new run directory: `sampled("name", prompts=lines, adapter=path, **sampling settings)`."""

    def do(
        name: str = "run",
        prompts: list[dict] | None = None,
        start_adapter: Path | None = None,
        adapter: Path | None = None,
        base_model: str | None = None,
        **sampling: object,
    ) -> list[dict]:
        base = {"base_model": base_model} if base_model else {}
        start = {"start_adapter": str(start_adapter)} if start_adapter else {}
        run = make_run(name, sampling={"max_new_tokens": 10, **sampling}, **start, **base)
        write_jsonl(run.prompts, PROMPTS if prompts is None else prompts)
        if adapter:
            shutil.copytree(adapter, run.adapter)
        sample(run)
        return lines(run)

    return do


def lines(run: RunDirectory) -> list[dict]:
    return [json.loads(line) for line in run.samples.read_text().splitlines()]


def logprob(base: Path, adapter: Path | None, prompt: str, token_ids: list[int]) -> float:
    """Return the summed log-probability of a completion, by one plain forward of the whole text."""
    loaded = load_sampled(TrainConfig.from_dict({"base_model": str(base)}), adapter)
    ids = loaded.tokenizer(prompt).input_ids
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([ids + token_ids])).logits[0].double()
    logprobs = logits.log_softmax(dim=-1)
    return sum(logprobs[len(ids) - 1 + at, token].item() for at, token in enumerate(token_ids))


def test_each_line_says_what_was_written_and_how(sampled, tmp_path: Path, tiny_model: Path) -> None:
    rows = sampled(temperature=0.8, top_p=0.9, top_k=50, samples_per_prompt=2)
    assert [(row["id"], row["index"]) for row in rows] == [
        (id_, index) for id_ in ("a", "7", "c") for index in (0, 1)
    ]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    for row in rows:
        assert row["completion"] == tokenizer.decode(row["token_ids"], skip_special_tokens=True)
        assert (row["token_ids"][-1] == tokenizer.eos_token_id) == (row["finish_reason"] == "stop")
        assert row["finish_reason"] == "stop" or len(row["token_ids"]) == row["max_new_tokens"] == 10
        assert (row["temperature"], row["top_p"], row["top_k"]) == (0.8, 0.9, 50)
        prompt = next(one["prompt"] for one in PROMPTS if str(one["id"]) == row["id"])
        assert row["logprob"] == pytest.approx(logprob(tiny_model, None, prompt, row["token_ids"]), abs=1e-4)
    assert len({row["seed"] for row in rows}) == len(rows)
    run = RunDirectory(tmp_path / "run")
    done = run.read_done()["sample"]
    assert done["completions"] == 6
    assert done["tokens"] == sum(len(row["token_ids"]) for row in rows)
    assert done["outputs"] == {"samples.jsonl": digest(run.samples)}
    read = {"config.json", "prompts.jsonl", *(f"base_model/{file.name}" for file in tiny_model.iterdir())}
    assert set(done["inputs"]) == read
    assert json.loads(run.progress_file.read_text())["phase"] == "done"


def test_a_prompt_gets_the_same_completions_in_any_company(sampled) -> None:
    def by_id(rows: list[dict]) -> dict[tuple[str, int], str]:
        return {(row["id"], row["index"]): row["completion"] for row in rows}

    all_together = by_id(sampled("all"))
    alone = by_id(sampled("alone", prompts=PROMPTS[2:], batch_size=1))
    assert alone == {key: text for key, text in all_together.items() if key[0] == "c"}
    assert by_id(sampled("again")) == all_together
    assert by_id(sampled("reseeded", seed=1)) != all_together


def test_a_line_may_ask_for_a_number_and_a_seed_of_its_own(sampled) -> None:
    rows = sampled("own", prompts=[{**PROMPTS[0], "n": 4}, {**PROMPTS[1], "seed": 5}])
    assert [row["id"] for row in rows] == ["a"] * 4 + ["7"] * 2
    as_configured = sampled("configured", prompts=PROMPTS[:2], seed=5)
    assert [row["completion"] for row in rows[4:]] == [row["completion"] for row in as_configured[2:]]
    assert rows[0]["completion"] != as_configured[0]["completion"]


def test_seeds_differ_by_prompt_number_attempt_and_seed() -> None:
    settings = SamplingConfig()
    seeds = {
        seed_of(SamplingConfig(seed=seed), SamplingPrompt(name, ""), index, attempt)
        for seed in (0, 1, 11)
        for name in ("1", "11", "a")
        for index in (0, 1)
        for attempt in (0, 1)
    }
    assert len(seeds) == 36
    assert all(0 <= seed < 1 << 48 for seed in seeds)  # exact as a JSON number wherever it is read
    assert seed_of(settings, SamplingPrompt("1", "x", seed=3), 0) == seed_of(
        SamplingConfig(seed=3), SamplingPrompt("1", ""), 0
    )


def test_distinct_completions_are_drawn_until_they_differ(sampled, tmp_path: Path) -> None:
    peaked = {"temperature": 0.05, "max_new_tokens": 1, "samples_per_prompt": 3}
    same = sampled("same", **peaked)
    assert len({(row["id"], row["completion"].strip()) for row in same}) < len(same)
    assert RunDirectory(tmp_path / "same").read_done()["sample"]["repeated"] > 0
    mild = {"temperature": 0.4, "max_new_tokens": 2, "samples_per_prompt": 3}
    before = sampled("before", **mild)
    after = sampled("after", distinct=True, **mild)
    texts = [(row["id"], row["completion"].strip()) for row in before]
    assert len(set(texts)) < len(texts), "the settings must make repeats for this test to say anything"
    assert len({(row["id"], row["completion"].strip()) for row in after}) == len(after)
    # Only repeats were drawn again, and the line holds the seed that its text comes from.
    for at, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (old["seed"] == new["seed"]) == (texts[at] not in texts[:at])


def test_greedy_repeats_are_left_and_counted(sampled, tmp_path: Path) -> None:
    sampled(temperature=0, distinct=True)
    assert RunDirectory(tmp_path / "run").read_done()["sample"]["repeated"] == 3


def test_the_policy_is_the_one_that_is_named(sampled, make_adapter, tiny_model: Path) -> None:
    start, trained = make_adapter("start", 1), make_adapter("trained", 2)
    rows = {
        name: sampled(name, adapter=trained, start_adapter=start, policy=name, samples_per_prompt=1)
        for name in ("auto", "trained", "start", "base")
    }
    assert rows["auto"] == rows["trained"]
    for name, adapter in (("trained", trained), ("start", start), ("base", None)):
        first = rows[name][0]
        assert first["logprob"] == pytest.approx(
            logprob(tiny_model, adapter, PROMPTS[0]["prompt"], first["token_ids"]), abs=1e-4
        )
    assert len({rows[name][0]["logprob"] for name in ("trained", "start", "base")}) == 3


def test_without_an_adapter_of_its_own_a_run_samples_its_start(sampled, make_adapter) -> None:
    start = make_adapter("start", 1)
    assert sampled("auto", start_adapter=start) == sampled("start", start_adapter=start, policy="start")


@pytest.mark.parametrize(
    ("settings", "named"), [({"policy": "trained"}, "trained"), ({"policy": "start"}, "start_adapter")]
)
def test_a_policy_that_is_not_there_is_refused(sampled, tmp_path: Path, settings: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        sampled(**settings)
    assert not RunDirectory(tmp_path / "run").samples.exists()


def test_completions_are_scored_under_the_reference_too(
    sampled, make_adapter, tmp_path: Path, tiny_model: Path
) -> None:
    start, other = make_adapter("start", 1), make_adapter("other", 2)
    for reference, adapter in (("base", None), ("start", start), (str(other), other)):
        name = f"ref-{len(reference)}"
        rows = sampled(name, start_adapter=start, reference=reference, samples_per_prompt=3)
        for row in rows:
            prompt = next(one["prompt"] for one in PROMPTS if str(one["id"]) == row["id"])
            expected = logprob(tiny_model, adapter, prompt, row["token_ids"])
            assert row["reference_logprob"] == pytest.approx(expected, abs=1e-4)
        gains = [row["logprob"] - row["reference_logprob"] for row in rows]
        kl = RunDirectory(tmp_path / name).read_done()["sample"]["kl"]
        assert kl == pytest.approx(sum(gains) / len(gains))
        assert (abs(kl) < 1e-3) == (reference == "start")


def test_a_reference_that_is_not_there_is_refused(sampled, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start_adapter"):
        sampled(reference="start")
    with pytest.raises(ModelError, match="nowhere"):
        sampled(reference=str(tmp_path / "nowhere"))
    assert not RunDirectory(tmp_path / "run").samples.exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_policy_that_writes_is_the_one_that_was_trained(
    dtype: str, make_run, make_adapter, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(dtype=dtype, sampling={"max_new_tokens": 30})
    write_jsonl(run.prompts, PROMPTS)
    shutil.copytree(make_adapter("small", 1, size=2e-3), run.adapter)
    config = run.read_config()
    writing, trained = load_sampled(config, run.adapter), load_scored(config, run.adapter, beside_start=False)
    # There a merge would round it to the weights' grid.
    assert has_adapter(writing.model) == (dtype == "bfloat16")
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        logits = [loaded.model(input_ids=ids, use_cache=False).logits for loaded in (writing, trained)]
    torch.testing.assert_close(*logits, rtol=0, atol=0 if dtype == "bfloat16" else 1e-5)
    sample(run)
    assert run.read_done()["sample"]["events"] == []


def test_completions_the_policy_scores_otherwise_are_dropped(
    make_run, make_adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(sampling={"max_new_tokens": 10})
    write_jsonl(run.prompts, PROMPTS)
    other, policy = make_adapter("other", 1), load_sampled
    monkeypatch.setattr("training.engine.sample.load_sampled", lambda config, _: policy(config, other))
    shutil.copytree(make_adapter("trained", 2), run.adapter)
    with pytest.raises(ModelError, match=r"does not write what it scores: the completion of prompt a was"):
        sample(run)
    assert not run.samples.exists()


def test_sampling_leaves_the_base_weights_on_disk_alone(sampled, make_adapter, tiny_model: Path) -> None:
    def digests() -> dict[str, str]:
        return {file.name: digest(file) for file in tiny_model.iterdir()}

    before = digests()
    sampled(start_adapter=make_adapter("start", 1))
    assert digests() == before


def test_prompt_too_long_is_named_and_nothing_is_written(
    make_run, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(sampling={"max_new_tokens": 20})
    write_jsonl(run.prompts, [*PROMPTS, {"id": "novel", "prompt": "the film was long " * 40}])
    assert main(["sample", str(run.root)]) == DataError.exit_code
    said = capsys.readouterr().err
    assert "novel" in said
    assert "128" in said
    assert "Traceback" not in said
    assert not run.samples.exists()
    assert not run.done.exists()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ('{"id": "a", "prompt": "it"', "line 2"),
        ('{"id": "a"}', "line 2: prompt"),
        ('{"id": "first", "prompt": "it"}', "line 2 repeats"),
        ('{"id": "a", "prompt": "it", "n": 0}', "line 2: n"),
        ('{"id": "a", "prompt": "it", "n": true}', "line 2: n"),
        ('{"id": "a", "prompt": "it", "seed": -1}', "line 2: seed"),
    ],
)
def test_a_bad_line_is_named_by_its_number(make_run, bad: str, named: str) -> None:
    run = make_run()
    run.prompts.write_text('{"id": "first", "prompt": "the"}\n' + bad + "\n")
    with pytest.raises(DataError, match=named):
        sample(run)
    assert not run.samples.exists()


@pytest.mark.parametrize(
    ("each", "counts", "error", "named"),
    [
        (2, [2**40], DataError, r"line 1: n must be a whole number from 1 to 10000000, not 1099511627776\.$"),
        (2, [6_000_000, 6_000_000], DataError, r"line 2: up to here, more than the 10,000,000 "),
        (
            6_000_000,
            [None, None],
            ConfigError,
            r"^sampling\.samples_per_prompt is 6000000: by line 2, more than",
        ),
    ],
)
def test_more_completions_than_memory_holds_are_refused(
    make_run, each: int, counts: list[int | None], error: type, named: str
) -> None:
    run = make_run(sampling={"samples_per_prompt": each})
    write_jsonl(run.prompts, [{"id": at, "prompt": "the", "n": n} for at, n in enumerate(counts)])
    with pytest.raises(error, match=named):
        sample(run)


def test_one_process_writes_in_several_run_directories(sampled, make_run, make_adapter) -> None:
    adapters = {"plain": None, "trained": make_adapter("adapter", 1)}
    alone = [sampled(f"{name}-alone", start_adapter=one) for name, one in adapters.items()]
    runs = [
        make_run(name, sampling={"max_new_tokens": 10}, start_adapter=one and str(one))
        for name, one in adapters.items()
    ]
    for run in runs:
        write_jsonl(run.prompts, PROMPTS)
    assert main(["sample", *(str(run.root) for run in runs)]) == 0
    assert [lines(run) for run in runs] == alone


def test_no_prompts_at_all_are_refused(make_run) -> None:
    run = make_run()
    with pytest.raises(DataError, match="does not exist"):
        sample(run)
    run.prompts.write_text("\n")
    with pytest.raises(DataError, match="no prompt"):
        sample(run)


def test_empty_prompt_without_bos_is_refused(sampled, make_run, tiny_model: Path, tmp_path: Path) -> None:
    assert sampled(prompts=[{"id": "empty", "prompt": ""}])[0]["token_ids"]
    model = tmp_path / "no-bos"
    load_base(TrainConfig.from_dict({"base_model": str(tiny_model)})).model.save_pretrained(model)
    make_tokenizer(bos=False).save_pretrained(model)
    run = make_run("no-bos-run", base_model=str(model))
    write_jsonl(run.prompts, [{"id": "empty", "prompt": ""}])
    with pytest.raises(DataError, match="empty is empty"):
        sample(run)


def test_chat_prompts_are_rendered_up_to_the_assistants_turn(sampled, tiny_model: Path) -> None:
    chat = [{"role": "user", "content": "was it good"}]
    rows = sampled("chat", prompts=[{"id": "a", "prompt": chat}])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    model = load_base(TrainConfig.from_dict({"base_model": str(tiny_model)})).model
    tokens = rows[0]["token_ids"]
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([ids + tokens])).logits[0].double().log_softmax(dim=-1)
    expected = sum(logprobs[len(ids) - 1 + at, token].item() for at, token in enumerate(tokens))
    assert rows[0]["logprob"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("metaspace", [False, True])
def test_a_completion_keeps_the_space_that_it_begins_with(metaspace: bool) -> None:
    tokenizer = make_tokenizer(metaspace=metaspace)
    prompt = tokenizer("the film", add_special_tokens=False).input_ids
    whole = tokenizer("the film was good", add_special_tokens=False).input_ids
    assert whole[: len(prompt)] == prompt
    written = Generation((*whole[len(prompt) :], tokenizer.eos_token_id), -1.0, "stop")
    assert decode(tokenizer, [Request(tuple(prompt), 0)], [written]) == [" was good"]


def test_prompts_without_room_are_skipped_if_asked_to(sampled, tmp_path: Path) -> None:
    """A round must not end because one of a thousand prompts is too long."""
    prompts = [*PROMPTS, {"id": "long", "prompt": "film " * 2000}]
    written = sampled("skipping", prompts, skip_long=True)
    assert {line["id"] for line in written} == {"a", "7", "c"}
    assert written == sampled("without")
    done = json.loads((tmp_path / "skipping" / "done.json").read_text())
    assert done["sample"]["too_long"] == ["long"]


def test_prompts_with_hidden_tools_are_counted_unless_skipped(sampled, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "price_of", "description": "a", "parameters": {}}}]
    prompts = [
        {"id": name, "prompt": [{"role": "user", "content": text}], "tools": tools}
        for name, text in (("short", "the film"), ("long", "film " * 2000))
    ]
    sampled("hiding", prompts, skip_long=True)
    events = json.loads((tmp_path / "hiding" / "done.json").read_text())["sample"]["events"]
    assert [event for event in events if "of 1 prompt (short): the model does not see them" in event]


def test_nothing_is_written_if_all_prompts_are_skipped(sampled, tmp_path: Path) -> None:
    """A round whose only held-out prompt is too long still ends with what it trained."""
    long = [{"id": "long", "prompt": "film " * 2000}]
    assert sampled("all", long, skip_long=True) == []
    done = json.loads((tmp_path / "all" / "done.json").read_text())["sample"]
    assert (done["too_long"], done["completions"]) == (["long"], 0)


def test_a_prompt_of_tokens_that_the_model_lacks_is_named(make_run, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = make_tokenizer(bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|extra|>"]})
    tokenizer.chat_template = "<|extra|>{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path / "model")
    run = make_run(base_model=str(tmp_path / "model"), sampling={"max_new_tokens": 4})
    write_jsonl(
        run.prompts,
        [{"id": "a", "prompt": "the film"}, {"id": "b", "prompt": [{"role": "user", "content": "a"}]}],
    )
    with pytest.raises(DataError, match=r"Prompt b holds token id 320.*names it <\|extra\|>\. Copy"):
        sample(run)
    write_jsonl(run.prompts, [{"id": "a", "prompt": "the film"}])
    sample(run)  # a token that no prompt holds does no harm


def test_a_refused_chat_is_left_out_unless_all_are(sampled, tmp_path: Path, tiny_model: Path) -> None:
    chats = {
        "a": [{"role": "user", "content": "a"}],
        "b": [{"role": "user", "content": "a "}, {"role": "fool"}],
    }
    rows = [{"id": name, "prompt": chat} for name, chat in chats.items()]
    rows[1]["prompt"][1]["content"] = "b"
    model = shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'fool' %}{{ raise_exception('no fools') }}"
        "{% endif %}{{ message['content'] }}{% endfor %}"
    )
    tokenizer.save_pretrained(model)
    assert {line["id"] for line in sampled(prompts=rows, base_model=str(model))} == {"a"}
    done = RunDirectory(tmp_path / "run").read_done()["sample"]
    assert done["refused"] == 1
    told = "Prompt b (prompts.jsonl line 2) is left out: The chat template refused a prompt: no fools."
    assert done["events"] == [told]
    with pytest.raises(DataError, match=r"No prompt is left\. Prompt b"):
        sampled("alone", prompts=rows[1:], base_model=str(model))


def test_writing_ends_with_the_turn_though_no_file_names_it(make_run) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|turn|>{% endfor %}"
    sampling = {"max_new_tokens": 60, "samples_per_prompt": 30, "temperature": 2.0}
    run = make_run("turn", chat_template=template, sampling=sampling)
    write_jsonl(run.prompts, [{"id": 1, "prompt": [{"role": "user", "content": "it cost"}]}])
    sample(run)
    ended = [row for row in lines(run) if 2 in row["token_ids"]]
    assert ended
    for row in ended:
        assert (row["token_ids"].index(2), row["finish_reason"]) == (len(row["token_ids"]) - 1, "stop")


def test_a_stop_string_ends_a_completion_and_is_not_part_of_it(sampled, tiny_model: Path) -> None:
    """Wherever in tokens it begins: text, ids and log-probability are those of what comes before it."""
    plain = sampled("plain", max_new_tokens=24, samples_per_prompt=6)
    texts = [one["completion"] for one in plain]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    seen = set()
    # Two characters of each completion that are its first such, from the middle of it: in a token, and over a border.
    for number in range(4):
        text = texts[number]
        places = [at for at in range(len(text) // 3, len(text) - 2) if text[at : at + 2].isascii()]
        (stop,) = {text[at : at + 2] for at in places[:1]}
        run_name = f"stop {number}"
        found = sampled(run_name, max_new_tokens=24, samples_per_prompt=6, stop=[stop, "never\n"])
        for before, one in zip(plain, found, strict=True):
            whole, _, _ = before["completion"].partition(stop)
            was_cut = whole != before["completion"]
            seen.add(was_cut)
            if not was_cut:
                assert one == before | {"stop": [stop, "never\n"]}
                continue
            assert one["finish_reason"] == "stop"
            assert one["completion"] == whole
            request = Request(tuple(one["prompt_token_ids"]), 0)
            kept = Generation(tuple(one["token_ids"]), 0.0, "stop")
            assert decode(tokenizer, [request], [kept]) == [whole]
            if one["token_ids"]:
                head = tokenizer.decode(one["prompt_token_ids"][1:])
                expected = logprob(tiny_model, None, head, one["token_ids"])
                assert one["logprob"] == pytest.approx(expected, abs=1e-3)
    assert seen == {True, False}


def test_the_time_left_is_told_anew_once_it_is_over(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes longer than the first tokens promised."""
    run, clock = make_run("run"), iter([0.0, 10.0, 100.0, 110.0])
    monkeypatch.setattr("training.engine.sample.time.monotonic", lambda: next(clock))
    progress, left = _Progress(run), []
    for done, share in ((1, 0.5), (2, 0.6), (3, 0.9)):
        progress(done, 4, share)
        left.append(json.loads(run.progress_file.read_text())["eta_seconds"])
    assert left == pytest.approx([10.0, 100 / 0.6 - 100, 110 / 0.9 - 110])
