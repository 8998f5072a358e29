"""Policies taken away: an adapter with its card, merged weights, commands, and a push to a hub."""

import io
import json
import math
import re
import tarfile
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

import numpy
import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.numpy import save_file

from annotate.models import TrailEntry
from tests.annotate.exports import hub as fake
from tests.local_server import serving
from tests.storages import FullStorage
from tests.training.using import adapters
from training.engine.adapters.settings import PRECISIONS
from training.models import MergedWeights
from training.usage import merging, model_card
from training.usage.bringing import bring_adapter
from training.usage.serving import merged_recipes
from training.usage.trials import answer
from training.usage.warm_engine import engine

pytestmark = pytest.mark.once

TOKEN = "hf_secret"


@pytest.fixture
def policy(finished: Any) -> Any:
    """Return the policy of a finished round, with an adapter."""
    adapters.write(finished.run_dir / "adapter", base_model_name_or_path=str(site.STARTER_MODEL))
    found = finished.result_policy
    found.project = finished.project
    return found


def test_the_archive_holds_the_adapter_and_its_card(policy: Any, researcher: Any, client_for: Any) -> None:
    client = client_for(researcher)
    sent = client.get(reverse("adapter-archive", args=["reviews", policy.pk]))
    with zipfile.ZipFile(io.BytesIO(b"".join(sent))) as archive:
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert files["adapter_model.safetensors"] == adapters.weights()
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "starter"
    card = files["README.md"].decode()
    assert card == client.get(reverse("model-card", args=["reviews", policy.pk])).content.decode()
    snapshot = policy.round.snapshot
    for fact in (
        'license: "apache-2.0"',
        "library_name: peft",
        f"`{snapshot.digest}`",
        "| 1 | 12 | 16 | 1 |",
        "Accuracy on held-out pairs: 80.0 %",
        '"learning_rate": 0.001',
        "The base model is under `apache-2.0`",
        "@misc{reviews-",
        "## Limits",
    ):
        assert fact in card, fact
    assert str(site.VAR) not in card + files["adapter_config.json"].decode()
    page = client.get(reverse("take-policy", args=["reviews", policy.pk])).content.decode()
    assert "--enable-lora --max-lora-rank 8" in page
    assert "convert_hf_to_gguf.py --outfile reviews-round-1-merged.gguf" in page


def test_the_card_of_another_sites_adapter_claims_no_training(project: Any, owner: Any) -> None:
    archive = io.BytesIO(adapters.zipped(adapters.files()))
    brought = bring_adapter(project, owner, "mine", project.current_policy, file=archive, filename="mine.zip")
    card = model_card.write(brought)
    assert "made elsewhere, and brought in" in card
    for claim in ("- dpo", "- human-feedback", "Trained with Whetstone", "It was tuned to", "win rate"):
        assert claim not in card, claim


def test_the_card_says_where_whetstones_own_models_are(policy: Any) -> None:
    assert "`starter` is the folder `training/starter` of Whetstone" in model_card.write(policy)
    policy.base_model = "smollm2"
    card = model_card.write(policy)
    assert "`smollm2` is the folder `var/models/smollm2` that `make demo MODEL=smollm2` makes" in card


def test_the_card_of_merged_weights_says_what_rounding_took(policy: Any) -> None:
    card = model_card.write(policy, model_card.Kind.MERGED, dtype="bfloat16", limits=["Rounding leaves 23%."])
    assert "\n- Rounding leaves 23%.\n\n## Licence" in card
    assert "The weights are in `bfloat16`.\n" in card
    assert "Rounding" not in (adapter := model_card.write(policy))
    assert "The weights are in" not in adapter


def test_the_engine_knows_every_precision_of_the_page() -> None:
    assert list(PRECISIONS) == MergedWeights.Precision.values


@pytest.mark.usefixtures("sent")
def test_each_precision_is_a_merge_of_its_own(policy: Any, owner: Any, client_for: Any) -> None:
    client, page = client_for(owner), reverse("take-policy", args=["reviews", policy.pk])
    asked = [{}, {"precision": "float16"}, {"precision": "float32"}, {"precision": "float32"}]
    places = [client.post(page, one).url for one in asked]
    assert len(set(places)) == 3
    assert places[2] == places[3]
    assert set(MergedWeights.objects.values_list("precision", "filename")) == {
        ("base", "reviews-round-1-merged.tar"),
        ("float16", "reviews-round-1-merged-float16.tar"),
        ("float32", "reviews-round-1-merged-float32.tar"),
    }
    assert TrailEntry.objects.filter(details__precision="float32").exists()
    refused = client.post(page, {"precision": "int8"})
    assert (refused.status_code, MergedWeights.objects.count()) == (422, 3)
    assert "int8 is not one of the available choices" in refused.content.decode()


def test_the_page_names_the_size_of_each_precision(policy: Any, owner: Any, client_for: Any) -> None:
    with safe_open(site.STARTER_MODEL / "model.safetensors", framework="numpy") as weights:
        count = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    shown = client_for(owner).get(reverse("take-policy", args=["reviews", policy.pk])).content.decode()
    for code, size in (("base", 2 * count), ("float16", 2 * count), ("float32", 4 * count)):
        option = re.search(rf'<option value="{code}".*?>(.*?)</option>', shown, re.DOTALL)
        assert option is not None
        assert filesizeformat(size) in option[1]


def test_a_model_in_half_precision_takes_half_the_size(policy: Any, tmp_path: Path, settings: Any) -> None:
    settings.BASE_MODELS = [str(tmp_path)]
    weights = numpy.ones((8, 4), numpy.float16)
    save_file({"a": weights, "b": weights}, tmp_path / "model.safetensors")
    policy.base_model = str(tmp_path)
    assert merging.measure_sizes(policy) == {"base": 128, "float16": 128, "float32": 256}
    save_file({"a": weights, "b": weights.astype(numpy.float32)}, tmp_path / "model.safetensors")
    assert merging.measure_sizes(policy) == {"base": 256, "float16": 128, "float32": 256}
    policy.base_model = str(tmp_path / "gone")
    assert merging.measure_sizes(policy) == {}


@pytest.mark.parametrize(
    ("dtype", "served", "converted"),
    [
        ("bfloat16", "merged --served-model-name", "--outtype auto"),
        ("float16", "merged --dtype float16 --served", "--outtype f16"),
        ("float32", "merged --dtype float32 --served", "--outtype f32"),
    ],
)
def test_commands_keep_the_precision_of_the_weights(
    policy: Any, dtype: str, served: str, converted: str
) -> None:
    vllm, llama_cpp, ollama = merged_recipes(policy, "merged", dtype)
    assert served in vllm.commands
    assert converted in llama_cpp.commands
    assert "FROM ./merged-Q4_K_M.gguf" in ollama.commands


def test_weights_that_lost_much_offer_wider_ones(policy: Any, owner: Any, client_for: Any) -> None:
    client = client_for(owner)
    merge = MergedWeights(policy=policy, filename="x-merged.tar", sha256="0" * 64, state="done")
    merge.expires_at = timezone.now() + timedelta(days=1)
    for dtype, error, offered in (
        ("bfloat16", "Rounding leaves 23%.", ["float16", "float32"]),
        ("float16", "Rounding leaves 80%.", ["float32"]),
        ("bfloat16", "", []),
    ):
        merge.dtype, merge.error = dtype, error
        merge.save()
        shown = client.get(reverse("merged-weights", args=["reviews", merge.pk])).content.decode()
        assert re.findall(r'name="precision" value="(\w+)"', shown) == offered
        assert error in shown
        assert "vllm serve ./x-merged" in shown


def test_a_name_cannot_write_into_the_card(policy: Any) -> None:
    policy.name = "[x](http://evil) <b> # `"
    assert "# \\[x\\](http://evil) \\<b\\> \\# \\`" in model_card.write(policy)
    policy.name = "end}, note = {evil"
    assert "  title = {end, note = evil, a policy of Film reviews},\n" in model_card.write(policy)


@pytest.mark.usefixtures("sent")
def test_a_merge_is_asked_for_once_cancelled_and_swept(
    policy: Any, owner: Any, client_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, page = client_for(owner), reverse("take-policy", args=["reviews", policy.pk])
    first, again = (client.post(page).url for _ in range(2))
    assert first == again
    assert "Waiting for a worker" in client.get(first).content.decode()
    client.post(first)
    merge = MergedWeights.objects.get()
    assert merge.state == "cancelled"
    merging.run(str(merge.pk), "worker")  # finds nothing to do
    assert client.get(reverse("merged-weights-file", args=["reviews", merge.pk])).status_code == 404
    merge.state, merge.sha256, merge.filename = "done", "0" * 64, "x.tar"
    merge.expires_at = timezone.now() - timedelta(days=1)
    merge.file.save("old", io.BytesIO(b"x"))
    path = Path(merge.file.path)
    # By the web server's clock it is there for another day.
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC) - timedelta(days=2))
    assert "has expired" in client.get(first).content.decode()
    merging.sweep()
    assert not path.exists()


@pytest.mark.usefixtures("sent")
def test_what_a_killed_merge_left_is_deleted(policy: Any, owner: Any) -> None:
    merge = merging.request(policy, owner)
    MergedWeights.objects.update(state="running", attempt=2)
    running, killed = (Path(site.VAR) / "merging" / f"{merge.pk}-{attempt}" for attempt in (2, 1))
    stray = running.with_name("no-merge")
    for folder in (running, killed, stray):
        (folder / "model").mkdir(parents=True)
    merging.request(policy, owner)
    assert (running.exists(), killed.exists(), stray.exists()) == (True, False, False)


@pytest.mark.usefixtures("sent")
def test_a_merge_whose_worker_cannot_tidy_up_says_so(policy: Any, owner: Any) -> None:
    merge = merging.request(policy, owner)
    workplace = Path(site.VAR) / "merging"
    workplace.mkdir(parents=True, exist_ok=True)
    workplace.rmdir()
    workplace.symlink_to(workplace)  # a loop, which no listing follows
    try:
        merging.run(str(merge.pk), "worker")
    finally:
        workplace.unlink()
    merge.refresh_from_db()
    assert (merge.state, merge.error != "") == ("failed", True)


@pytest.mark.slow
@pytest.mark.usefixtures("sent")
def test_a_worker_merges_and_answers_by_the_engine(
    policy: Any, owner: Any, client_for: Any, monkeypatch: Any
) -> None:
    """Run both children of the engine for real: merged weights as a file, and answers of base and policy."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    merge = merging.request(policy, owner, "float16")
    merging.run(str(merge.pk), "worker")
    merge.refresh_from_db()
    assert (merge.error, merge.dtype) == ("", "float16")
    sent = client_for(owner).get(reverse("merged-weights-file", args=["reviews", merge.pk]))
    content = b"".join(sent)
    assert len(content) == merge.size
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = {Path(name).name for name in archive.getnames()}
        card, config = (
            cast(IO[bytes], archive.extractfile(f"reviews-round-1-merged-float16/{name}")).read()
            for name in ("README.md", "config.json")
        )
    assert b"The weights are in `float16`." in card
    assert json.loads(config)["dtype"] == "float16"
    assert {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "README.md",
    } <= names
    form = {
        "kind": "text",
        "text": "The film was",
        "max_new_tokens": 8,
        "temperature": 1,
        "top_p": 1,
        "seed": 1,
    }
    form["policies"] = [policy.parent_id, policy.pk]
    made = client_for(owner).post(reverse("try-policy", args=["reviews", policy.pk]), form)
    trial = policy.project.trials.get()
    try:
        answer(str(trial.pk), "worker")
    finally:
        engine.close()
    assert [one.error for one in trial.answers.all()] == ["", ""]
    texts = {one.text for one in trial.answers.all()}
    assert len(texts) == 2  # the adapter changes what is written
    assert all(one.sample["token_ids"] for one in trial.answers.all())
    assert made.url == reverse("trial", args=["reviews", trial.pk])


@pytest.mark.slow
@pytest.mark.usefixtures("sent")
def test_merged_weights_that_find_no_room_say_so(
    policy: Any, owner: Any, use_storage: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_storage(FullStorage)
    merge = merging.request(policy, owner)
    merging.run(str(merge.pk), "worker")
    merge.refresh_from_db()
    assert (merge.state, merge.error[:26]) == ("failed", "The server’s disk is full.")
    assert not list((site.VAR / "merging").iterdir())


def test_a_push_sends_the_folder_and_keeps_no_token(
    policy: Any, owner: Any, client_for: Any, monkeypatch: Any
) -> None:
    page = reverse("push-policy", args=["reviews", policy.pk])
    client = client_for(owner)
    with serving(fake.Hub(TOKEN)) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        given = {"repository": "ours/model", "token": TOKEN}
        sent = client.post(page, given, follow=True)
        assert f"{hub.address}/ours/model" in sent.content.decode()
        assert set(hub.files["ours/model"]) == {
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
        }
        assert hub.private["ours/model"]
        wrong = client.post(page, given | {"token": "wrong"})
        assert (wrong.status_code, "The hub does not know this token." in wrong.content.decode()) == (
            422,
            True,
        )
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        call_command("push_policy", "reviews", policy.name, "ours/again")
        assert hub.files["ours/again"] == hub.files["ours/model"]
        assert hub.private["ours/again"]
        call_command("push_policy", "reviews", policy.name, "ours/shown", "--public")
        client.post(page, given | {"repository": "ours/shown-too", "public": "on"})
        assert not hub.private["ours/shown"]
        assert not hub.private["ours/shown-too"]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CommandError, match="Give a token"):
        call_command("push_policy", "reviews", policy.name, "ours/again")
    assert TOKEN not in json.dumps(list(TrailEntry.objects.values("target", "details")))
