"""The verb `assist`: a probe labels pairs of fresh completions, which `train` takes beside the judged ones."""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.waiting import wait_for
from training.engine.__main__ import main
from training.engine.assisting.verb import NO_KL
from training.engine.config import AssistConfig, TrainConfig
from training.engine.errors import ConfigError
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.starter import build, reviews

STARTER = str(Path(build.__file__).parents[2] / "starter")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a run directory with a probe of the starter that has skill, and two pairs of one prompt."""
    run = RunDirectory(tmp_path_factory.mktemp("assisted"))
    settings = {"assist": {"pairs": 5, "candidates": 3}, "sampling": {"max_new_tokens": 12}, "threads": 1}
    run.write_config(TrainConfig.from_dict({"base_model": STARTER, **settings}))
    write_jsonl(run.votes, votes())
    assert main(["probe", str(run.root)]) == 0
    pair = {"prompt": "A quiet film", "chosen": " that I loved.", "rejected": " that I hated."}
    write_jsonl(run.pairs, [{"id": str(at), **pair} for at in range(2)])
    return run


def votes() -> list[dict[str, object]]:
    rng, rows = random.Random(0), []
    while len(rows) < 60:
        (opening, first), (_, second) = reviews.review(rng), reviews.review(rng)
        if (difference := reviews.reward(first) - reviews.reward(second)) != 0:
            vote = {"annotator": "a", "prefers": "first" if difference > 0 else "second"}
            rows.append(
                {"id": str(len(rows)), "prompt": opening, "first": first, "second": second, "votes": [vote]}
            )
    return rows


def test_train_takes_the_pairs_that_the_probe_labelled(run: RunDirectory) -> None:
    assert main(["assist", str(run.root)]) == 0
    rows = [row for _, row in read_jsonl(run.assisted_pairs)]
    told = run.read_done()["assist"]
    assert told["status"] == "assisted"
    assert told["pairs"] == len(rows) == 5
    assert all(row["prompt"] == "A quiet film" and 0.5 < row["label"] < 1 for row in rows)
    assert all(row["chosen_score"] > row["rejected_score"] for row in rows)
    strengths = [row["gap"] / (row["chosen_score"] - row["rejected_score"]) for row in rows]
    assert strengths == pytest.approx(strengths[:1] * 5, rel=1e-3)
    assert 0 < told["kl"] < 3
    assert told["events"] == [
        f"The labels describe a KL of {told['kl']:.2f} nats, not assist.kl (3): so few completions show no more."
        " Raise assist.pairs to have more written."
    ]
    assert all(0 < row["gap"] < 30 for row in rows)
    before = run.assisted_pairs.read_bytes()
    assert main(["assist", str(run.root)]) == 0
    assert run.assisted_pairs.read_bytes() == before
    assert main(["train", str(run.root)]) == 0
    done = run.read_done()["train"]
    assert done["pairs"] == 2 + len(rows)
    assert "assisted_pairs.jsonl" in done["inputs"]


def test_no_more_completions_are_written_than_pairs_need(run: RunDirectory, tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(run.root, tmp_path / "run", ignore=shutil.ignore_patterns("assist*")))
    pair = {"chosen": " that I loved.", "rejected": " that I hated."}
    prompts = ("A quiet film", "A long film", "A new film", "A famous film")
    write_jsonl(run.pairs, [{"id": at, "prompt": at, **pair} for at in prompts])
    for pairs, asked in ((3, [3, 3, 3]), (6, [6, 6, 3, 3])):
        settings = json.loads(run.config_file.read_text())
        settings["assist"]["pairs"] = pairs
        run.config_file.write_text(json.dumps(settings))
        assert main(["assist", str(run.root)]) == 0
        written = Counter(row["id"] for _, row in read_jsonl(run.root / "assist" / "samples.jsonl"))
        assert list(written.values()) == asked
        assert run.read_done()["assist"]["completions"] == sum(asked)


def test_completions_that_show_no_policy_are_not_labelled(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(shutil.copytree(run.root, tmp_path / "run", ignore=shutil.ignore_patterns("assist*")))
    settings = json.loads(run.config_file.read_text())
    settings["assist"] = {"pairs": 1, "candidates": 2, "drafted": 0.0}
    run.config_file.write_text(json.dumps(settings))
    assert main(["assist", str(run.root)]) == 0
    told = run.read_done()["assist"]
    assert (told["status"], told["pairs"], told["completions"], told["kl"]) == ("skipped", 0, 2, None)
    assert told["reason"] == NO_KL
    assert NO_KL in capsys.readouterr().err
    assert run.assisted_pairs.read_bytes() == b""


def test_prompts_of_the_caller_stay_as_they_are(run: RunDirectory, tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(run.root, tmp_path / "run", ignore=shutil.ignore_patterns("assist*")))
    given = RunDirectory(run.root / "assist").prompts
    given.parent.mkdir()
    write_jsonl(given, [{"id": "mine", "prompt": "A western", "n": 6}])
    before = given.read_bytes()
    assert main(["assist", str(run.root)]) == 0
    assert given.read_bytes() == before
    assert [row["prompt"] for _, row in read_jsonl(run.assisted_pairs)] == ["A western"] * 2


@pytest.fixture
def drafted(run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """Return a run directory like `run`, with two of its five pairs from a draft."""
    run = RunDirectory(shutil.copytree(run.root, tmp_path / "run", ignore=shutil.ignore_patterns("assist*")))
    settings = json.loads(run.config_file.read_text())
    settings |= {"epochs": 3, "learning_rate": 2e-3, "assist": settings["assist"] | {"drafted": 0.4}}
    run.config_file.write_text(json.dumps(settings))
    return run


def test_draft_writes_its_share_of_the_pairs(drafted: RunDirectory) -> None:
    assert main(["assist", str(drafted.root)]) == 0
    rows = [row for _, row in read_jsonl(drafted.assisted_pairs)]
    assert [row["id"].split(" ")[0] for row in rows] == ["assisted"] * 3 + ["drafted"] * 2
    told = drafted.read_done()["assist"]
    assert (told["pairs"], told["drafted"], told["prompts"]) == (5, 2, 1)
    assert told["completions"] == 5 * 3
    strengths = [row["gap"] / (row["chosen_score"] - row["rejected_score"]) for row in rows]
    assert strengths == pytest.approx(strengths[:1] * 5, rel=1e-3)
    assert 0 < told["kl"] < 3
    assert told["events"] == [
        f"The labels describe a KL of {told['kl']:.2f} nats, not assist.kl (3): so few completions show no more."
        " Raise assist.pairs to have more written."
    ]
    assert all(0 < row["gap"] < 30 for row in rows)
    draft = RunDirectory(drafted.root / "assist" / "draft")
    trained = draft.read_done()["train"]
    assert (trained["pairs"], trained["steps"]) == (2 + 3, 3)  # of what people and the probe judged
    assert draft.read_done()["sample"]["policy"] == str(draft.adapter)
    assert main(["train", str(drafted.root)]) == 0
    assert drafted.read_done()["train"]["pairs"] == 2 + 5


def test_draft_is_not_trained_or_asked_again(drafted: RunDirectory) -> None:
    assert main(["assist", str(drafted.root)]) == 0
    draft = RunDirectory(drafted.root / "assist" / "draft")
    files = [draft.done, draft.samples, draft.adapter / "adapter_model.safetensors"]
    before = [(file.stat().st_mtime_ns, file.read_bytes()) for file in files]
    assert main(["assist", str(drafted.root)]) == 0
    assert [(file.stat().st_mtime_ns, file.read_bytes()) for file in files] == before


def test_draft_of_other_settings_is_retrained(drafted: RunDirectory) -> None:
    assert main(["assist", str(drafted.root)]) == 0
    draft = RunDirectory(drafted.root / "assist" / "draft")
    before = draft.adapter.joinpath("adapter_model.safetensors").read_bytes()
    settings = json.loads(drafted.config_file.read_text())
    drafted.config_file.write_text(json.dumps(settings | {"learning_rate": 1e-3}))
    assert main(["assist", str(drafted.root)]) == 0
    assert draft.adapter.joinpath("adapter_model.safetensors").read_bytes() != before
    assert draft.read_config().learning_rate == 1e-3


def test_killed_draft_resumes_to_the_same_pairs(drafted: RunDirectory, tmp_path: Path) -> None:
    settings = json.loads(drafted.config_file.read_text())
    drafted.config_file.write_text(json.dumps(settings | {"epochs": 40, "checkpoint_steps": 1}))
    whole = RunDirectory(shutil.copytree(drafted.root, tmp_path / "whole"))
    assert main(["assist", str(whole.root)]) == 0
    draft = RunDirectory(drafted.root / "assist" / "draft")
    child = subprocess.Popen(
        [sys.executable, "-m", "training.engine", "assist", str(drafted.root)], stderr=subprocess.DEVNULL
    )
    wait_for(lambda: len(list(draft.checkpoints.glob("step-*.json"))) > 0 or child.poll() is not None)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert "train" not in draft.read_done()
    assert main(["assist", str(drafted.root)]) == 0
    assert drafted.assisted_pairs.read_bytes() == whole.assisted_pairs.read_bytes()
    (event,) = (one for one in draft.read_done()["train"]["events"] if "Resumed" in one)
    assert "checkpoint" in event


def test_draft_takes_the_place_of_a_stale_checkpoint(drafted: RunDirectory) -> None:
    assert main(["assist", str(drafted.root)]) == 0
    draft = RunDirectory(drafted.root / "assist" / "draft")
    whole = draft.adapter.joinpath("adapter_model.safetensors").read_bytes()
    # As another run's stop leaves it: a checkpoint, and no adapter.
    for stopped in (draft.root, drafted.root):
        shutil.rmtree(stopped / "adapter", ignore_errors=True)
        (stopped / "done.json").unlink()
    draft.checkpoints.mkdir(exist_ok=True)
    other = RunDirectory(shutil.copytree(draft.root, drafted.root.parent / "other"))
    other.write_config(replace(draft.read_config(), seed=5, epochs=2, checkpoint_steps=1))
    assert main(["train", str(other.root)]) == 0
    shutil.copytree(other.checkpoints, draft.checkpoints, dirs_exist_ok=True)
    assert main(["assist", str(drafted.root)]) == 0
    assert draft.adapter.joinpath("adapter_model.safetensors").read_bytes() == whole


def test_draft_learns_from_a_pair_at_least() -> None:
    for pairs, drafted, expected in ((10, 0.96, 9), (1, 0.9, 0), (0, 0.5, 0), (5, 0.4, 2)):
        settings = AssistConfig(pairs=pairs, candidates=4, drafted=drafted)
        assert settings.drafted_pairs == expected
        assert settings.completions == 4 * sum(-(-some // 2) for some in (pairs - expected, expected))


def test_draft_starts_where_the_policy_does(drafted: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory(tmp_path / "other")
    other.write_config(TrainConfig.from_dict({"base_model": STARTER, "lora": {"r": 4}, "threads": 1}))
    shutil.copyfile(drafted.pairs, other.pairs)
    assert main(["train", str(other.root)]) == 0
    settings = json.loads(drafted.config_file.read_text())
    # Of another rank.
    drafted.config_file.write_text(json.dumps(settings | {"reference": str(other.adapter)}))
    assert main(["assist", str(drafted.root)]) == 0
    draft = RunDirectory(drafted.root / "assist" / "draft").read_config()
    assert (draft.start_adapter, draft.reference, draft.lora.r) == (None, str(other.adapter), 16)
    assert main(["train", str(drafted.root)]) == 0


def test_draft_leaves_no_checkpoint(drafted: RunDirectory) -> None:
    assert main(["assist", str(drafted.root)]) == 0
    assert not RunDirectory(drafted.root / "assist" / "draft").checkpoints.exists()


def test_draft_beside_sharded_weights_is_refused(run: RunDirectory) -> None:
    settings = json.loads(run.config_file.read_text())
    settings |= {"shard": True, "assist": {"pairs": 5, "drafted": 0.5}}
    with pytest.raises(ConfigError, match=r"assist\.drafted must be 0 with shard"):
        TrainConfig.from_dict(settings)


def test_probe_without_skill_labels_nothing(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(shutil.copytree(run.root, tmp_path / "run"))
    about = json.loads((run.probe / "probe.json").read_text())
    about["skill"]["has_skill"] = False
    (run.probe / "probe.json").write_text(json.dumps(about))
    assert main(["assist", str(run.root)]) == 0
    assert run.read_done()["assist"]["status"] == "skipped"
    assert list(read_jsonl(run.assisted_pairs)) == []
    assert "no better than chance" in capsys.readouterr().err


def test_assisting_with_no_pairs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"base_model": STARTER}))
    assert main(["assist", str(tmp_path)]) == 3
    assert "assist.pairs is 0" in capsys.readouterr().err
