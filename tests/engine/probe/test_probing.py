"""The verbs `probe` and `rate`, on a tiny model and on the starter."""

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.engine.conftest import WORDS
from training.engine.__main__ import main
from training.engine.config import TrainConfig
from training.engine.errors import DataError
from training.engine.probe.base_reader import BaseReader
from training.engine.probe.probing import list_checks
from training.engine.probe.regression import Posterior
from training.engine.probe.sketch import sketch_tokens
from training.engine.probe.storage import Probe, Standard, load_probe
from training.engine.probe.votes import VotedPair
from training.engine.records import parse_pair
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.starter import build, reviews

STARTER = Path(build.__file__).parents[2] / "starter"


def vote(prefers: str, annotator: str = "a") -> dict[str, str]:
    return {"annotator": annotator, "prefers": prefers}


def review_votes(count: int) -> list[dict[str, object]]:
    """Reviews of the starter's kind, judged by Bradley-Terry annotators of sharpness 4."""
    rng = random.Random(0)
    rows: list[dict[str, object]] = []
    while len(rows) < count:
        (opening, first), (_, second) = reviews.review(rng), reviews.review(rng)
        gap = reviews.reward(first) - reviews.reward(second)
        if gap:
            odds = 4.0**gap * 13.0**gap  # e^(4 gap)
            prefers = "first" if rng.random() < odds / (1 + odds) else "second"
            votes = [vote(prefers, rng.choice("ab"))]
            rows.append(
                {"id": len(rows), "prompt": opening, "first": first, "second": second, "votes": votes}
            )
    return rows


def test_150_labels_beat_chance_on_unseen_prompts(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_config(TrainConfig.from_dict({"base_model": str(STARTER)}))
    rows = review_votes(150)
    write_jsonl(run.votes, rows)
    assert main(["probe", str(tmp_path)]) == 0
    told = run.read_done()["probe"]
    assert told["skill"]["has_skill"]
    assert told["reliability"].keys() == {"a", "b"}
    labels = [line for _, line in read_jsonl(run.probe_labels)]
    assert [line["id"] for line in labels] == [str(row["id"]) for row in rows]
    fresh = [text for _, text in (reviews.review(random.Random(seed)) for seed in range(60))]
    write_jsonl(run.prompts, [{"id": 1, "prompt": "A film."}])
    samples = [{"id": 1, "index": at, "completion": text, "token_ids": None} for at, text in enumerate(fresh)]
    write_jsonl(run.samples, samples)
    assert main(["rate", str(tmp_path)]) == 0
    scores = torch.tensor([line["score"] for _, line in read_jsonl(run.ratings)])
    rewards = torch.tensor([reviews.reward(text) for text in fresh])
    assert float(torch.corrcoef(torch.stack([scores, rewards]))[0, 1]) > 0.4


def test_only_votes_without_other_evidence_are_checked() -> None:
    pair = parse_pair({"id": 1, "prompt": "p", "first": "one", "second": "two"}, "", ("first", "second"))
    alone, met = (("a", True),), (("a", True), ("b", False))
    voted = [
        VotedPair(pair=pair, votes=votes, ties=1, gold=gold)
        for votes, gold in ((alone, None), (met, None), (alone, True))
    ]
    fitted: Any = SimpleNamespace(chances=[0.8] * 3)
    assert list_checks(voted, fitted) == {"a": [(0.8, 1)]}


@pytest.mark.parametrize("packing", ["on", "off"])
def test_features_are_the_same_in_any_company(make_run, packing: str) -> None:
    run = make_run(packing=packing)
    config = run.read_config()
    model = BaseReader(config, run)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(12)]
    pairs = [
        parse_pair(
            {"id": at, "prompt": "the film", "first": f" {one}", "second": f" {other} x"},
            "",
            ("first", "second"),
        )
        for at, (one, other) in enumerate(zip(texts[::2], texts[1::2], strict=True))
    ]
    encoded, _ = model.encoder.encode_pairs(pairs)
    reader = model.features_of(encoded, 2, 96, print)
    together = torch.cat([features for _, features in reader.read(encoded)])
    order = [place for places, _ in reader.read(encoded) for place in places]
    alone = torch.cat([features for at in order for _, features in reader.read([encoded[at]])])
    assert torch.allclose(together, alone, atol=1e-5)
    # By hand: mean and deviation of the last hidden states over the words, without the token that ends them.
    ids = [*encoded[0].prompt, *encoded[0].chosen[:-1]]
    reader.scorer.use("padded")
    with torch.no_grad():
        hidden = model.loaded.base.base_model(torch.tensor([ids])).last_hidden_state[0]
    words = hidden[len(encoded[0].prompt) :]
    plain = torch.cat([words.mean(dim=0), words.std(dim=0, correction=0)])
    found = together[order.index(0), 0]
    assert torch.allclose(found[64:128], plain, atol=1e-5)
    assert torch.equal(found[128:], sketch_tokens(torch.tensor(encoded[0].chosen[:-1]), 96))


def fit_and_rate(run: RunDirectory) -> None:
    """Fit a probe to four votes, and rate one completion by it."""
    rows = [
        {"id": at, "prompt": f"film {at}", "first": " good", "second": " bad", "votes": [vote("first")]}
        for at in range(4)
    ]
    write_jsonl(run.votes, rows)
    write_jsonl(run.samples, [{"id": 1, "prompt_token_ids": [3, 4], "token_ids": [5, 6], "completion": "x"}])
    assert main(["probe", str(run.root)]) == 0
    assert main(["rate", str(run.root)]) == 0


def test_a_probe_of_another_base_model_is_refused(make_run, tmp_path: Path, capsys) -> None:
    run = make_run()
    fit_and_rate(run)
    first = (run.probe / "probe.safetensors").read_bytes()
    assert main(["probe", str(run.root)]) == 0
    assert (run.probe / "probe.safetensors").read_bytes() == first
    told = json.loads((run.probe / "probe.json").read_text())
    told["base_model"]["base_model/model.safetensors"] = "0" * 64
    (run.probe / "probe.json").write_text(json.dumps(told))
    assert main(["rate", str(run.root)]) == 5
    assert "fitted to another base model" in capsys.readouterr().err


def test_a_probe_from_before_sketches_rates_as_it_did(make_run) -> None:
    run = make_run(probe_tokens=0)
    fit_and_rate(run)
    before = run.ratings.read_bytes()
    told = json.loads((run.probe / "probe.json").read_text())
    del told["features"]["tokens"]
    (run.probe / "probe.json").write_text(json.dumps(told))
    run.write_config(replace(run.read_config(), probe_tokens=256))
    assert main(["rate", str(run.root)]) == 0
    assert run.ratings.read_bytes() == before


def test_completions_that_are_all_alike_give_no_skill(make_run) -> None:
    run = make_run()
    rows = [
        {"id": at, "prompt": f"film {at}", "first": " good", "second": " good", "votes": [vote("first")]}
        | {"second_finish_reason": "length"}  # so it does not end in a token that features leave out
        for at in range(8)
    ]
    write_jsonl(run.votes, rows)
    write_jsonl(run.samples, [{"id": 1, "prompt_token_ids": [3, 4], "token_ids": [5, 6], "completion": "x"}])
    assert main(["probe", str(run.root)]) == 0
    assert run.read_done()["probe"]["skill"]["has_skill"] is False
    assert main(["rate", str(run.root)]) == 0
    assert json.loads(run.ratings.read_text())["score"] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"votes": "first"}, "votes must be a list of objects"),
        ({"votes": [{"annotator": 3, "prefers": "first"}]}, "votes need an annotator"),
        ({"votes": [vote("left")]}, 'prefers must be "first", "second" or "tie"'),
        ({"votes": [vote("first"), vote("tie")]}, "'a' voted twice"),
        ({"gold": "a"}, 'gold must be "first" or "second"'),
        ({"first": 7}, "first must be a string"),
        ({"votes": []}, "holds no vote to learn from"),
    ],
)
def test_bad_votes_are_one_sentence(make_run, capsys, change, sentence: str) -> None:
    run = make_run()
    line = {"id": 1, "prompt": "film", "first": " good", "second": " bad", "votes": [vote("first")]}
    write_jsonl(run.votes, [line | change])
    assert main(["probe", str(run.root)]) == 4
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told


def test_ties_alone_are_labelled_one_half(make_run) -> None:
    run = make_run()
    rows = [
        {
            "id": at,
            "prompt": f"film {at}",
            "first": " good",
            "second": " bad",
            "votes": [vote("tie" if at == 3 else "first")],
        }
        for at in range(6)
    ]
    write_jsonl(run.votes, rows)
    assert main(["probe", str(run.root)]) == 0
    labels = {line["id"]: line["label"] for _, line in read_jsonl(run.probe_labels)}
    assert labels.pop("3") == 0.5
    assert all(label > 0.5 for label in labels.values())


@pytest.mark.parametrize(
    "change",
    [
        {"skill": "great"},
        {"skill": {}},
        {"skill": {"has_skill": "no"}},
        {"features": {"layers": "many"}},
        {"features": {"layers": float("inf")}},
        {"features": 3},
        {"alpha": float("nan")},
        {"alpha": 0},
        {"format": [1]},
    ],
)
def test_a_damaged_probe_is_one_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    numbers = torch.ones(4, dtype=torch.float64)
    about = {"features": {"layers": 1}, "skill": {"has_skill": True}, "base_model": {}}
    Probe(Posterior(numbers, numbers[:, None], 1.0), Standard(numbers, numbers), about).save(
        tmp_path / "probe"
    )
    load_probe(tmp_path / "probe", {})
    file = tmp_path / "probe" / "probe.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match="cannot be read"):
        load_probe(tmp_path / "probe", {})


@pytest.mark.parametrize("content", ['{"a":' * 100_000 + "1" + "}" * 100_000, "[1]", "null", None])
def test_a_probe_that_is_no_object_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is None:
        (tmp_path / "probe.json").mkdir()
    else:
        (tmp_path / "probe.json").write_text(content)
    with pytest.raises(DataError, match=r"^The probe in .* cannot be read: [^\n]+\.$"):
        load_probe(tmp_path, {})


@pytest.mark.parametrize(
    "odd",
    [
        {"mean": torch.full((4,), torch.nan)},
        {"mean": torch.ones(4, 1)},
        {"basis": torch.ones(4)},
        {"scale": torch.tensor(1.0)},
        {"scale": torch.zeros(4)},
    ],
)
def test_damaged_numbers_of_a_probe_are_one_sentence(tmp_path: Path, odd: dict[str, torch.Tensor]) -> None:
    found = {
        "mean": torch.ones(4),
        "basis": torch.ones(4, 1),
        "center": torch.ones(4),
        "scale": torch.ones(4),
    }
    found |= odd
    about = {"features": {"layers": 1}, "skill": {"has_skill": True}, "base_model": {}}
    posterior, standard = (
        Posterior(found["mean"], found["basis"], 1.0),
        Standard(found["center"], found["scale"]),
    )
    Probe(posterior, standard, about).save(tmp_path / "probe")
    with pytest.raises(DataError, match="cannot be read"):
        load_probe(tmp_path / "probe", {})
