"""A plan says what a run would do and need, and changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from benchmarks import plan as benchmark
from benchmarks.shapes import CPU_CASES
from tests.engine.conftest import pair_lines, tiny_llama
from tests.engine.oracle import save_model
from training.engine.config import AssistConfig, TrainConfig
from training.engine.errors import memory_short
from training.engine.planning.figures import line_at, spread
from training.engine.planning.model_facts import describe
from training.engine.planning.proposals import propose
from training.engine.planning.sampling_cost import Survival, measure_sampling
from training.engine.planning.table import lines
from training.engine.planning.training_cost import measure_training
from training.engine.rundir import write_jsonl


def test_a_training_is_measured_and_nothing_written(make_run) -> None:
    long = {"id": "long", "prompt": "the film " * 40, "chosen": " good", "rejected": " bad"}
    same = {"id": "same", "prompt": "a", "chosen": " good", "rejected": " good"}
    run = make_run(pairs=[*pair_lines(10), long, same], epochs=2, max_length=48)
    write_jsonl(run.heldout, pair_lines(3, seed=5))
    before = {path.name: path.read_bytes() for path in run.root.iterdir()}
    found = measure_training(str(run.root), run.read_config())
    assert {path.name: path.read_bytes() for path in run.root.iterdir()} == before
    pairs, training = found["pairs"], found["training"]
    assert (pairs["given"], pairs["trained"], pairs["heldout"]) == (12, 11, 3)
    assert pairs["left_out"]["dropped"] == {"identical_completions": 1}
    assert pairs["left_out"]["truncated"] == {"prompt_middle": 1}
    assert pairs["longest_before_cut"] > pairs["max_length"] == 48
    assert (training["steps"], training["steps_per_epoch"], training["fits"]) == (6, 3, True)
    assert training["seconds"]["training"] > 0
    assert training["peak_memory_bytes"] > found["model"]["weights_bytes"] > 0
    assert found["preview"]["prompt"].startswith("<s>")
    proposed = propose(run.read_config(), found)
    assert [(one["option"], one["value"]) for one in proposed] == [
        ("max_length", pairs["longest_before_cut"])
    ]
    said = "\n".join(lines(found | {"proposals": proposed}))
    for part in ("1 identical_completions", "1 prompt_middle", "time to train", "proposal: max_length"):
        assert part in said


def test_a_training_counts_pairs_that_a_probe_labels(make_run) -> None:
    run = make_run(pairs=pair_lines(8), epochs=2, batch_size=4)
    alone = measure_training(str(run.root), run.read_config())["training"]
    config = replace(run.read_config(), assist=AssistConfig(pairs=72, drafted=0.5))
    found = measure_training(str(run.root), config)
    assert found["pairs"]["to_label"] == 72
    more = found["training"]
    assert (alone["steps"], more["steps"]) == (4, 40)
    assert more["tokens"] == 10 * alone["tokens"]
    # Speeds differ from measurement to measurement, and the shares of one do not.
    seconds = more["seconds"]
    both = seconds["reference"] + seconds["training"]
    assert seconds["draft"] - seconds["loading"] == pytest.approx(both * 44 / 80, rel=0.05, abs=0.05)
    assert "a probe may label" in "\n".join(lines(found | {"proposals": []}))
    write_jsonl(run.assisted_pairs, [row | {"id": f"assisted {row['id']}"} for row in pair_lines(12, seed=3)])
    known = measure_training(str(run.root), config)
    assert (known["pairs"]["given"], known["pairs"]["to_label"], known["training"]["steps"]) == (20, 0, 10)


def test_sampling_is_measured_with_prompts_passed_over(make_run) -> None:
    run = make_run(sampling={"max_new_tokens": 12, "samples_per_prompt": 3})
    prompts = [{"id": str(at), "prompt": "the film was"} for at in range(4)]
    write_jsonl(run.prompts, [*prompts, {"id": "long", "prompt": "the film " * 90}])
    before = {path.name: path.read_bytes() for path in run.root.iterdir()}
    found = measure_sampling(str(run.root), run.read_config())
    assert {path.name: path.read_bytes() for path in run.root.iterdir()} == before
    assert (found["prompts"]["written_for"], found["prompts"]["too_long"]) == (4, 1)
    sampling = found["sampling"]
    assert (sampling["completions"], sampling["fits"]) == (12, True)
    assert 1 <= sampling["mean_tokens"] <= 12
    # So few tokens of so small a model may be written in less than what is rounded away.
    assert sampling["seconds"]["loading"] > 0
    assert min(sampling["seconds"].values()) >= 0


def test_a_model_is_described_by_its_files(tiny_model: Path) -> None:
    facts = describe(TrainConfig(base_model=str(tiny_model), device="cpu"))
    assert (facts["architecture"], facts["context"], facts["layers"]) == ("LlamaForCausalLM", 128, 2)
    assert (facts["chat_template"], facts["dtype"]) == ("model", "float32")
    assert facts["weights_bytes"] == 4 * facts["parameters"]
    named = describe(TrainConfig(base_model=str(tiny_model), device="cpu", chat_template="ChatML"))
    assert named["chat_template"] == "settings"


def test_a_head_tied_to_the_embeddings_counts_once(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", tiny_llama(tie_word_embeddings=True))
    stored = sum(weight.numel() for weight in load_file(model / "model.safetensors").values())
    facts = describe(TrainConfig(base_model=str(model), device="cpu"))
    assert (facts["parameters"], facts["weights_bytes"]) == (stored, 4 * stored)


MODEL = {"device": "cpu", "available_bytes": 1000 << 20, "context": 4096}
TRAINING = {
    "fits": False,
    "longest_pair": 400,
    "max_tokens": 1024,
    "row_bytes": [[100, 200 << 20], [500, 1000 << 20]],
}


@pytest.mark.parametrize(
    ("config", "changed", "expected"),
    [
        ({}, {}, ("max_tokens", 450)),  # 2 MiB a token, nothing besides: nine tenths of 1000 MiB
        ({}, {"longest_pair": 600}, ("gradient_checkpointing", True)),
        ({"gradient_checkpointing": True}, {"longest_pair": 600}, ("max_length", 225)),
        ({"device": "cuda"}, {"row_bytes": []}, ("quantization", "nf4")),
    ],
)
def test_what_does_not_fit_is_given_a_remedy(config: dict, changed: dict, expected: tuple) -> None:
    device = config.get("device", "cpu")
    plan = {"model": MODEL | {"device": device}, "training": TRAINING | changed}
    found = propose(TrainConfig(base_model="m", **config), plan)
    assert (found[0]["option"], found[0]["value"]) == expected


def test_a_sampling_that_does_not_fit_holds_fewer_tokens() -> None:
    sampling = {"fits": False, "peak_memory_bytes": 1600 << 20, "held_bytes": 800 << 20, "held_tokens": 8000}
    found = propose(TrainConfig(base_model="m"), {"model": MODEL, "sampling": sampling})
    # 400 MiB besides, and 1.5 times what is held: 500 of 1200 MiB are left.
    assert [(one["option"], one["value"]) for one in found] == [("sampling.max_tokens", 3333)]


def test_figures_between_and_beyond_measured_sizes() -> None:
    assert line_at([(100, 1.0), (200, 3.0)], 150) == 2.0
    assert line_at([(100, 1.0), (200, 3.0)], 300) == 5.0
    assert line_at([(100, 4.0), (200, 3.0)], 300) == 3.0  # never less for more
    assert line_at([(100, 2.0)], 50) == 1.0
    assert spread([1, 2, 3, 40]) == {
        **{"min": 1, "p50": 3, "p90": 40, "p99": 40, "max": 40, "mean": 11.5},
        "histogram": {"16": 3, "64": 1},
    }
    half = Survival([2, 2, 8, 8], 8)
    assert [half.at(token) for token in (0, 1, 2, 7, 16)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_each_verb_has_a_remedy_of_its_own_for_memory() -> None:
    assert "lower sampling.max_tokens or sampling.batch_size" in str(memory_short(MemoryError(), "sample"))
    assert "lower max_tokens" in str(memory_short(MemoryError(), "train"))


@pytest.mark.slow  # trains and samples: half a minute on an idle machine
def test_a_plan_is_right_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In processor seconds, as other tests run beside it."""
    monkeypatch.setenv("PYTHONPATH", benchmark.PROCESSOR_CLOCK)
    for one in benchmark.compare(CPU_CASES[0], tmp_path, processor=True):
        assert one.ratio <= benchmark.BOUND, one
