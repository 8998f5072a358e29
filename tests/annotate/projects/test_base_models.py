"""Base models that a project may name: what the site's keeper lists, and nothing else can be told apart."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site

from annotate.errors import RefusalError
from annotate.models import Policy, Project, Prompt
from annotate.projects import base_models, lifecycle
from primitives.model_folder import list_names, only_gguf
from training.engine.model.files import find_model

pytestmark = pytest.mark.once  # no query is special to a database

URL = "/p/reviews/settings/"


@pytest.fixture
def models(settings: Any, tmp_path: Path) -> Path:
    """Return a root with one model, which projects may take beside any model of Qwen's."""
    (tmp_path / "models" / "mine").mkdir(parents=True)
    settings.BASE_MODELS = [str(tmp_path / "models"), "Qwen/*"]
    return tmp_path / "models"


def test_by_default_only_the_starter_and_var_models_are_allowed() -> None:
    assert [str(site.VAR / "models")] == site.BASE_MODELS
    assert base_models.locate("starter") == str(site.STARTER_MODEL)
    assert base_models.locate("Qwen/Qwen2.5-0.5B") is None


def test_what_the_keeper_lists_is_found(models: Path) -> None:
    assert base_models.locate(f"{models}/mine") == f"{models}/mine"
    assert base_models.locate(f"{models}/mine/") == f"{models}/mine"
    assert base_models.locate("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"


def test_a_gguf_file_is_found_where_its_folder_may_be(models: Path) -> None:
    (models / "tiny.Q4_0.gguf").touch()
    (models / "tiny.bin").touch()
    assert base_models.locate(f"{models}/tiny.Q4_0.gguf") == f"{models}/tiny.Q4_0.gguf"
    assert base_models.locate("Qwen/tiny-GGUF/tiny.Q4_0.gguf") == "Qwen/tiny-GGUF/tiny.Q4_0.gguf"
    for name in (f"{models}/tiny.bin", "eve/tiny-GGUF/tiny.Q4_0.gguf", "Qwen/tiny/a/b.gguf", "Qwen/a/..gguf"):
        assert base_models.locate(name) is None, name


def test_gguf_files_that_are_not_one_model_are_refused(models: Path) -> None:
    def write(*names: str, content: bytes = b"GGUF") -> str:
        folder = models / f"folder-{len(list(models.iterdir()))}"
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(content)
        return str(folder)

    one, several = write("tiny.gguf", "mmproj-tiny.gguf"), write("a.Q4_0.gguf", "b.gguf")
    for name in (one, f"{one}/tiny.gguf", f"{several}/b.gguf", write("a.gguf", "b.gguf", "config.json")):
        assert base_models.gguf_problem(name) == "", name
    for name in ("starter", "smollm2", "Qwen/Qwen2.5-0.5B", f"{models}/mine", "eve/model"):
        assert base_models.gguf_problem(name) == "", name
    assert base_models.gguf_problem(several).endswith(
        f"(a.Q4_0.gguf, b.gguf): name one of them, such as {several}/a.Q4_0.gguf."
    )
    parts = write("tiny-00001-of-00002.gguf")
    for name in (parts, f"{parts}/tiny-00001-of-00002.gguf"):
        assert "llama-gguf-split --merge" in base_models.gguf_problem(name)
    damaged = write("tiny.gguf", content=b"<!doctype html>")
    assert base_models.gguf_problem(damaged) == "tiny.gguf is not a GGUF file, or is damaged: copy it again."


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def shard(folder: Path, *present: str) -> None:
    """Name two shards of weights in an index, of which some are there."""
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    for name in present:
        (folder / names[name]).write_bytes(weights)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "it holds no weights"),
    "pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "its weights are in pytorch_model.bin, and only safetensors are read",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "it holds no config.json"),
    "torn config": (lambda folder: cut(folder / "config.json"), "config.json is damaged or cut short"),
    "torn weights": (lambda folder: cut(folder / "model.safetensors"), "model.safetensors is damaged or cut"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "it holds no tokenizer"),
    "torn tokenizer": (lambda folder: cut(folder / "tokenizer.json"), "tokenizer.json is damaged or cut"),
    "adapter": (
        lambda folder: (folder / "adapter_config.json").touch(),
        "it holds an adapter (adapter_config.json); name the base model that it belongs to",
    ),
    "missing shard": (
        lambda folder: shard(folder, "a"),
        "of the 2 files of its weights, it lacks model-00002-of-00002.safetensors",
    ),
    "pointer": (
        lambda folder: (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1"),
        "tokenizer.json is a pointer of Git LFS and not the file",
    ),
    "link to nothing": (
        lambda folder: (folder / "chat_template.jinja").symlink_to("/nowhere/template"),
        "chat_template.jinja is a link to a file that is not there",
    ),
}


@pytest.fixture
def folder(models: Path) -> Path:
    """Return an allowed folder with a whole model."""
    return Path(shutil.copytree(site.STARTER_MODEL, models / "whole"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_whole_model_is_refused(
    fault: str, folder: Path, project: Project, admin_client: Any
) -> None:
    assert base_models.files_problem(str(folder)) == ""
    damage, says = FAULTS[fault]
    damage(folder)
    with pytest.raises(RefusalError, match=re.escape(says)):
        lifecycle.start_from(project, str(folder))
    form = {"name": "Poems", "base_model": str(folder), "judgments_needed": "1"}
    answer = admin_client.post("/new/", form)
    (error,) = answer.context["form"].errors["base_model"]
    assert says in error
    assert error.endswith(".")


@pytest.mark.parametrize("kind", ["adapter", "external"])
def test_an_unused_policy_of_another_kind_is_kept(project: Project, kind: str) -> None:
    """One that was brought in has neither completions nor successors at first."""
    policy = project.policies.create(
        name="ours", kind=kind, base_model="starter", adapter="runs/ours/adapter"
    )
    project.current_policy = policy
    project.save()
    assert not lifecycle.may_choose_base_model(project)
    lifecycle.start_from(project, "starter")
    assert project.policies.filter(pk=policy.pk).exists()


def test_whole_models_in_parts_and_behind_links_are_taken(folder: Path, models: Path) -> None:
    linked = models / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert base_models.files_problem(str(linked)) == ""
    shard(folder, "a", "b")
    assert base_models.files_problem(str(folder)) == ""


def test_a_folder_of_one_gguf_file_and_a_config_is_taken(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "tiny.Q8_0.gguf").write_bytes(b"GGUF")
    (folder / "mmproj-tiny.gguf").write_bytes(b"GGUF")
    assert base_models.files_problem(str(folder)) == ""
    assert only_gguf(list_names(folder)) == "tiny.Q8_0.gguf"  # which the engine asks
    (folder / "tiny.Q8_0.gguf").write_bytes(b"<!doctype html>")
    assert base_models.files_problem(str(folder)).startswith("tiny.Q8_0.gguf is not a GGUF file")


def test_files_that_nobody_reads_refuse_no_folder(folder: Path) -> None:
    for name in ("consolidated.safetensors", "trainer_state.json", "model.safetensors.index.json", "a.gguf"):
        (folder / name).symlink_to("/nowhere/file")
        (folder / f"2-{name}").write_text("version https://git-lfs.github.com/spec/v1")
    assert base_models.files_problem(str(folder)) == ""
    assert find_model(str(folder), None).gguf is None


def test_shards_that_are_not_there_are_named(folder: Path) -> None:
    shard(folder, "a")
    second = folder / "model-00002-of-00002.safetensors"
    second.symlink_to("/nowhere/file")
    assert f"{second.name} is a link to a file that is not there" in base_models.files_problem(str(folder))
    second.unlink()
    second.write_text("version https://git-lfs.github.com/spec/v1")
    assert f"{second.name} is a pointer of Git LFS" in base_models.files_problem(str(folder))


def test_an_index_may_be_larger_than_a_configuration(folder: Path) -> None:
    shard(folder, "a", "b")
    index = folder / "model.safetensors.index.json"
    written = json.loads(index.read_text())
    index.write_text(json.dumps(written | {"metadata": " " * (20 << 20)}))
    assert base_models.files_problem(str(folder)) == ""
    (folder / "config.json").write_text(json.dumps({"filler": " " * (20 << 20)}))
    says = f"config.json has {(20 << 20) + 14:,} bytes, and no more than 16,777,216 are read."
    assert base_models.files_problem(str(folder)).endswith(says)


def test_an_index_that_is_too_large_is_not_read(folder: Path) -> None:
    shard(folder, "a", "b")
    with (folder / "model.safetensors.index.json").open("a") as index:
        index.truncate((64 << 20) + 1)
    says = "model.safetensors.index.json has 67,108,865 bytes, and no more than 67,108,864 are read."
    assert base_models.files_problem(str(folder)).endswith(says)


def test_blanks_at_the_end_of_a_tokenizer_are_no_damage(folder: Path) -> None:
    with (folder / "tokenizer.json").open("a") as file:
        file.write("\r\n" * 100)
    assert base_models.files_problem(str(folder)) == ""


def test_a_root_may_be_a_link_and_is_followed(models: Path, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(models)
    settings.BASE_MODELS = [str(tmp_path / "linked")]
    for name in (tmp_path / "linked" / "mine", models / "mine"):
        assert base_models.locate(str(name)) == f"{models}/mine"


def outside(models: Path) -> list[str]:
    """Names of folders that exist, and are not below a root, or not once links are followed."""
    secret = models.parent / "secret"
    secret.mkdir()
    (models / "link").symlink_to(secret)
    (secret / "weights.gguf").touch()
    (models / "link.gguf").symlink_to(secret / "weights.gguf")
    (models / "circle").symlink_to(models / "circle")
    return [
        str(secret),
        f"{models}/../secret",
        f"{models}/link",
        f"{models}/link.gguf",
        f"{models}/circle",
        f"{models}/missing",
        f"{models}x",
        "/etc/ssh",
        "/proc/self/fd",
        str(site.VAR),
        "~",
        "~root/x",
        "~nosuchuser/x",
        "./training/starter",
        "training/starter",
        "annotate",
        f"/{'n' * 449}",
        f"{models}/{'n' * 300}",
        "n" * 400,
        f"{models}/mine\0",
        f"{models}/\ud800",
        "Qwen/../secret",
        "Qwen/a/b",
        "qwen/other",
        "eve/Qwen",
        "Qwen/" + "n" * 100,
        "",
    ]


def test_what_is_missing_and_what_is_not_allowed_are_one_answer(models: Path) -> None:
    for name in outside(models):
        assert base_models.locate(name) is None, name
        assert base_models.explain_refusal(name).encode()  # can be shown


def test_nothing_outside_of_the_roots_is_looked_at(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    for name in ("stat", "lstat"):
        ask = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda path, *a, ask=ask, **k: looked_at.append(str(path)) or ask(path, *a, **k)
        )
    for name in ("/etc/ssh", "/proc/self/fd", f"{models}/../secret", "eve/model"):
        base_models.locate(name)
    assert [path for path in looked_at if not str(models).startswith(path)] == []
    base_models.locate(f"{models}/mine")
    assert f"{models}/mine" in looked_at


def test_a_hub_id_never_stands_for_a_folder_of_the_checkout(settings: Any) -> None:
    settings.BASE_MODELS = ["*"]
    assert base_models.locate("training/starter") is None
    assert base_models.locate("training/starting") == "training/starting"


@pytest.mark.parametrize("page", ["settings", "new"])
def test_every_refusal_has_one_sentence_and_one_status(
    page: str, models: Path, project: Any, owner: Any, client_for: Any, admin_client: Any
) -> None:
    client, address = (client_for(owner), URL) if page == "settings" else (admin_client, "/new/")
    initial = client.get(address).context["form"]
    data = {name: initial[name].value() for name in initial.fields if initial[name].value() is not None}
    data |= {
        "name": "Poems",
        "reasons": "",
        "criteria": "",
        "training_settings": "{}",
        "sampling_settings": "{}",
    }
    said = set()
    for name in ("/etc/ssh", f"{models}/missing", "eve/model", "~nosuchuser/x", f"/{'n' * 449}"):
        answer = client.post(address, data | {"base_model": name})
        (error,) = answer.context["form"].errors["base_model"]
        said.add((answer.status_code, error.partition("“")[0] + error.partition("”")[2]))
    assert said == {
        (
            422,
            "The base model  does not exist, or is not among those that this site allows (WHETSTONE_MODELS).",
        )
    }
    assert Project.objects.count() == Policy.objects.count() == 1


def test_pages_stay_when_a_model_is_no_longer_allowed(
    models: Path, project: Any, owner: Any, client_for: Any
) -> None:
    Policy.objects.update(base_model="eve/model")
    client = client_for(owner)
    for page in ("", "settings/", "rounds/", "rounds/ready/", "policies/"):
        answer = client.get(f"/p/reviews/{page}", follow=True)
        assert answer.status_code == 200, page
    form = client.get(URL).context["form"]
    data = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    data |= {"guidelines": "Anew.", "reasons": "", "criteria": ""}
    data |= {"training_settings": "{}", "sampling_settings": "{}"}
    assert client.post(URL, data).status_code == 302
    assert Project.objects.get().guidelines == "Anew."
    assert Policy.objects.get().base_model == "eve/model"
    prompt = Prompt(project=project)
    prompt.set_content("A review begins")
    prompt.save()
    answer = client.post("/p/reviews/rounds/", {"action": "write", "count": "1"})
    assert answer.status_code == 422
    assert "The base model “eve/model” does not exist, or is not among" in answer.content.decode()
