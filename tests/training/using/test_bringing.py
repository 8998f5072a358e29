"""Policies from elsewhere: checked before they are stored, with a lineage that says where they came from."""

import io
import json
import shutil
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from annotate.models import Policy, TrailEntry
from tests.training.using import adapters
from training.rounds import deciding
from training.rounds.plan import Plan
from training.usage.bringing import bring_adapter
from training.usage.places import require_adapter

pytestmark = pytest.mark.once

FILES = adapters.files()
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def bring(project: Any, owner: Any, client_for: Any) -> Any:
    """bring(archive, name="…"): what the page answers."""
    client = client_for(owner)

    def bring(archive: bytes | None = None, **changes: Any) -> Any:
        base = project.policies.get(name="starter").pk
        form = {"what": "adapter", "name": "elsewhere-v1", "base": base} | changes
        if archive is not None:
            form["file"] = SimpleUploadedFile("mine.zip", archive)
        return client.post(reverse("bring-policy", args=["reviews"]), form)

    return bring


@pytest.mark.parametrize("pack", [adapters.zipped, adapters.tarred])
def test_an_adapter_becomes_a_policy_to_start_from(
    pack: Any, bring: Any, project: Any, owner: Any, client_for: Any
) -> None:
    others = {"mine/training_args.bin": b"\x80\x04never read", "mine/README.md": b"# Mine"}
    answer = bring(pack(adapters.files("mine/") | others))
    policy = project.policies.get(name="elsewhere-v1")
    assert answer.url == f"/p/reviews/policies/{policy.pk}/"
    folder = require_adapter(policy)
    assert sorted(file.path for file in folder.files()) == [CONFIG, WEIGHTS]
    weights = folder.find(WEIGHTS)
    assert weights is not None
    assert weights.read_bytes() == FILES[WEIGHTS]
    page = " ".join(client_for(owner).get(answer.url).content.decode().split())
    assert page.count("by olive on") == 2  # the facts, and the lineage
    told = b"".join(client_for(owner).get(f"{answer.url}lineage.json"))
    assert json.loads(told)["policy"]["brought_in"]["from"] == "mine.zip"
    assert "mine.zip" in page
    assert policy.origin["sha256"].keys() == {CONFIG, WEIGHTS}
    assert policy.parent.name == "starter"
    deciding.roll_back(project, policy, owner)
    project.refresh_from_db()
    assert project.current_policy == policy
    assert Plan.for_project(project, policy, {}).config.start_adapter == policy.adapter
    assert TrailEntry.objects.filter(verb="brought_in", target="policy elsewhere-v1").count() == 1


def test_an_adapter_may_be_deep_inside_its_archive(bring: Any, project: Any) -> None:
    """As `tar czf mine.tgz /home/pia/out/checkpoint-200` packs it."""
    bring(adapters.tarred(adapters.files("home/pia/out/checkpoint-200/")))
    assert project.policies.filter(name="elsewhere-v1").exists()


def damaged(**changes: bytes) -> bytes:
    return adapters.zipped(FILES | {name.replace("__", "."): content for name, content in changes.items()})


def packed(method: int) -> bytes:
    """Return a zip file whose members are packed in a way that unpacks whole blocks at once."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return out.getvalue()


def torn() -> bytes:
    """Return a zip file whose packed bytes are damaged behind the name of the first member."""
    archive = bytearray(packed(zipfile.ZIP_DEFLATED))
    start = 30 + struct.unpack("<H", archive[26:28])[0]
    archive[start : start + 10] = b"\xff" * 10
    return bytes(archive)


def long_winded() -> bytes:
    """Return a tar file with a description of two megabytes before a member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(CONFIG)
        member.pax_headers = {"comment": "x" * (2 << 20)}
        archive.addfile(member, io.BytesIO(b""))
    return out.getvalue()


def twice() -> bytes:
    """Return a tar file that holds the weights twice."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in (*FILES.items(), (WEIGHTS, FILES[WEIGHTS])):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zipped_twice() -> bytes:
    """Return a zip file that holds the weights twice."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings(category=UserWarning, action="ignore"):
        for name, content in (*FILES.items(), (WEIGHTS, FILES[WEIGHTS])):
            archive.writestr(name, content)
    return out.getvalue()


def header(shape: str) -> bytes:
    head = f'{{"x": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 4]}}}}'.encode()
    return struct.pack("<Q", len(head)) + head + bytes(4)


QUERY = next(name for name in adapters.starter_shapes() if "q_proj" in name)
HALF = f"{adapters.PREFIX}{QUERY.removesuffix('.weight')}.lora_A.weight"

BAD = {
    "bzip2 in a zip": (packed(zipfile.ZIP_BZIP2), "not a zip or tar archive"),
    "damaged bytes": (torn(), "not a zip or tar archive"),
    "a long description": (long_winded(), "not a zip or tar archive"),
    "an infinite side": (
        damaged(adapter_model__safetensors=header("[Infinity]")), "not a whole file of safetensors"
    ),
    "a side of many digits": (
        damaged(adapter_model__safetensors=header(f"[{'9' * 4000}]")), "not a whole file of safetensors"
    ),
    "no archive": (b"hello", "not a zip or tar archive"),
    "cut short": (adapters.zipped(FILES)[:-60], "not a zip or tar archive"),
    "a pickle": (
        adapters.zipped({CONFIG: FILES[CONFIG], "adapter_model.bin": b"\x80\x04"}),
        "Only safetensors are read, and the weights are in adapter_model.bin",
    ),
    "no configuration": (adapters.zipped({WEIGHTS: FILES[WEIGHTS]}), "holds no adapter_config.json"),
    "a path that leads out": (adapters.zipped(adapters.files("../")), "leads elsewhere"),
    "an absolute path": (adapters.tarred(adapters.files("/etc/")), "leads elsewhere"),
    "a link in a zip": (adapters.zipped(FILES, links=(WEIGHTS,)), "holds a link"),
    "a link in a tar": (adapters.tarred(FILES, links=(WEIGHTS,)), "holds a link"),
    "two adapters": (adapters.zipped(adapters.files("a/") | adapters.files("b/")), "more than one adapter"),
    "a file twice in a tar": (twice(), "The archive holds a file twice: adapter_model.safetensors."),
    "a file twice in a zip": (zipped_twice(), "The archive holds a file twice: adapter_model.safetensors."),
    "no JSON": (damaged(adapter_config__json=b"{"), "The file adapter_config.json is not a small JSON object"),
    "JSON in UTF-16": (
        damaged(adapter_config__json=FILES[CONFIG].decode().encode("utf-16")), "is not a small JSON object"
    ),
    "a long configuration": (
        damaged(adapter_config__json=b" " * (2 << 20)), "The file adapter_config.json is not a small JSON object"
    ),
    "another rank": (
        adapters.zipped(adapters.files(r=4)), "In adapter_config.json, r is 4, and the matrices have the rank 2."
    ),
    "another kind": (adapters.zipped(adapters.files(peft_type="IA3")), "kind IA3; only LoRA"),
    "layers without their second half": (
        damaged(adapter_model__safetensors=adapters.tensors({HALF: [2, adapters.starter_shapes()[QUERY][1]]})),
        "q_proj.lora_A.weight” has no lora_B beside it",
    ),
    "a rank with a point": (adapters.zipped(adapters.files(r=2.0)), "In adapter_config.json, r is not a rank"),
    "whole layers beside it": (
        adapters.zipped(adapters.files(modules_to_save=["lm_head"])),
        "The adapter sets modules_to_save, which cannot be trained or computed here; merge the adapter",
    ),
    "a beginning in the base": (
        adapters.zipped(adapters.files(init_lora_weights="pissa")), "begins with init_lora_weights"
    ),
    "no rank": (adapters.zipped(adapters.files(r=0)), "In adapter_config.json, r is not a number above 0"),
    "another base": (
        adapters.zipped(adapters.files(base_model_name_or_path="Qwen/Qwen3-8B")),
        "trained on “Qwen/Qwen3-8B”, and the base model here is “starter”",
    ),
    "no tensors": (
        damaged(adapter_model__safetensors=b"\xff" * 64), "The file adapter_model.safetensors is not a whole file of"
    ),
    "half of them": (damaged(adapter_model__safetensors=FILES[WEIGHTS][:-8]), "not a whole file of safetensors"),
    "whole numbers": (
        damaged(adapter_model__safetensors=adapters.tensors({f"{adapters.PREFIX}x.lora_A.weight": [2, 2]}, "I32")),
        "has the type I32",
    ),
    "layers of another model": (
        damaged(
            adapter_model__safetensors=adapters.tensors({f"{adapters.PREFIX}h.0.c.lora_A.weight": [2, 4]})
        ),
        "None of its layers is one of the base model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_what_is_wrong_is_told_and_nothing_is_kept(case: str, bring: Any, project: Any) -> None:
    archive, says = BAD[case]
    answer = bring(archive)
    assert (answer.status_code, says in answer.content.decode()) == (422, True)
    assert project.policies.count() == 1
    assert not [path for path in site.RUNS.rglob("*") if path.is_file()]


def test_an_archive_that_swells_is_stopped(project: Any, settings: Any) -> None:
    settings.IMPORT_LIMIT = 100_000
    base = project.current_policy
    for archive in (
        adapters.zipped({**FILES, WEIGHTS: bytes(5_000_000)}),
        adapters.tarred({"filler": bytes(5_000_000), **FILES}),
    ):
        with pytest.raises(Exception, match=r"larger than 0 MB"):
            bring_adapter(project, None, "bomb", base, file=io.BytesIO(archive), filename="x")
    assert project.policies.count() == 1


def test_only_places_that_the_site_allows_are_read(
    bring: Any, project: Any, settings: Any, tmp_path: Path
) -> None:
    adapters.write(tmp_path / "allowed" / "mine")
    adapters.write(tmp_path / "secret")
    settings.BASE_MODELS = [str(tmp_path / "allowed")]
    assert bring(place=str(tmp_path / "secret")).status_code == 422
    assert bring(place=str(tmp_path / "allowed" / ".." / "secret")).status_code == 422
    assert bring(place=str(tmp_path / "allowed" / "mine")).status_code == 302
    (tmp_path / "allowed" / "mine" / CONFIG).write_bytes(adapters.config(r=4))
    answer = bring(name="other", place=str(tmp_path / "allowed" / "mine"))
    assert answer.context["form"].errors.keys() == {"place"}
    model = {"what": "model", "name": "sft-v2"}
    assert bring(**model, place=str(tmp_path / "allowed" / "mine")).status_code == 422  # holds no config.json
    assert bring(**model, place="starter").status_code == 302
    policy = project.policies.get(name="sft-v2")
    assert (policy.kind, policy.base_model) == (Policy.Kind.BASE, "starter")
    assert policy in deciding.once_current(project)
    assert bring(**model, place="starter").status_code == 422  # the name is taken


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "config.json",
            b"[]",
            "config.json is damaged or cut short, or not an object of JSON",
        ),
        (
            "model.safetensors",
            b"\xff" * 64,
            "model.safetensors is damaged or cut short (it has no header)",
        ),
    ],
    ids=["configuration", "weights"],
)
def test_a_damaged_model_is_told_at_its_folder(
    bring: Any, project: Any, settings: Any, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    settings.BASE_MODELS = [str(tmp_path)]
    shutil.copytree(site.STARTER_MODEL, tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(content)
    answer = bring(what="model", name="damaged", place=str(tmp_path / "model"))
    (told,) = answer.context["form"].errors["place"]
    assert told.endswith(f"cannot be used: {says}; copy it again.")
    assert project.policies.count() == 1


def test_ranks_that_differ_by_layer_are_taken(bring: Any) -> None:
    layers = {"rank_pattern": {"q_proj": 2, "v_proj": 2}, "alpha_pattern": {}}
    assert bring(adapters.zipped(adapters.files(r=4, **layers))).status_code == 302


def test_a_policy_gets_a_name_of_its_own(project: Any, owner: Any, researcher: Any, client_for: Any) -> None:
    policy = project.current_policy
    page = reverse("policy", args=["reviews", policy.pk])
    imported = project.policies.create(name="gpt-4", kind="external")
    client = client_for(owner)
    assert client_for(researcher).post(page, {"action": "name", "name": "mine"}).status_code == 403
    for name, says in {
        "support-v1": "It is called support-v1 now.",
        "gpt-4": "Another policy of this project is called “gpt-4”.",
        "": "A name has from 1 to 120 characters.",
        "a\u200bb": "characters that cannot be seen",
    }.items():
        assert says in client.post(page, {"action": "name", "name": name}, follow=True).content.decode()
    policy.refresh_from_db()
    assert policy.name == "support-v1"
    other = reverse("policy", args=["reviews", imported.pk])
    answer = client.post(other, {"action": "name", "name": "x"}, follow=True)
    assert "Files name this policy so" in answer.content.decode()
    entry = TrailEntry.objects.get(verb="renamed")
    assert (entry.target, entry.details) == ("policy support-v1", {"before": "starter"})
