"""Policies from elsewhere: a PEFT adapter, a model, or an endpoint that writes, each checked before it is stored."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings as site
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.exports.hub import HubError
from annotate.models import Policy, Project, User
from annotate.projects import base_models, trail
from primitives.text import printable
from training.endpoints.addresses import find_place
from training.models import Endpoint
from training.storage.folders import hash_file
from training.usage.adapter_archives import WANTED, too_large, unpack, write_file
from training.usage.naming import check_name
from training.usage.places import drop_adapter, keep_adapter
from training.usage.weights_check import check_adapter

SAMPLING = ("temperature", "top_p", "max_new_tokens")


def bring_adapter(
    project: Project,
    by: User | None,
    name: str,
    base: Policy,
    *,
    file: BinaryIO | None = None,
    filename: str = "",
    place: str = "",
    is_same_base: bool = False,
) -> Policy:
    """Store an adapter as a policy: from an uploaded archive, or from a folder or a repository that the site allows.

    `base` is the policy whose base model it belongs to; with `is_same_base` its own name for that is not compared.
    Raises RefusalError, naming the field at fault. Nothing is stored then.
    """
    name = _free_name(project, name)
    if base.project_id != project.pk or not base.base_model:
        raise RefusalError(_("Choose a policy with a base model."), "base")
    with _aside() as aside, _move_refusal("file" if file is not None else "place"):
        if file is not None:
            unpack(file, aside)
        else:
            _copy_adapter(place, aside)
        check_adapter(aside, base.base_model, is_same_base=is_same_base)
        digests = {one: hash_file(aside / one) for one in WANTED}
        adapter = keep_adapter(project, aside)
    policy = Policy(
        project=project,
        name=name,
        kind=Policy.Kind.ADAPTER,
        base_model=base.base_model,
        revision=base.revision,
        parent=base,
        adapter=adapter,
        origin={"from": printable(filename if file is not None else place, 400), "sha256": digests},
        brought_by=by,
    )
    try:
        return _store(policy)
    except BaseException:
        drop_adapter(adapter)
        raise


def bring_model(project: Project, by: User | None, name: str, place: str, revision: str = "") -> Policy:
    """Store a model that the site allows as a policy of its own. Raises RefusalError, naming the field at fault."""
    name = _free_name(project, name)
    found = base_models.locate(place)
    if found is None:
        raise RefusalError(base_models.explain_refusal(place), "place")
    if revision and found.startswith("/"):
        raise RefusalError(_("A folder has no revisions."), "revision")
    if problem := base_models.files_problem(place):
        raise RefusalError(problem, "place")
    policy = Policy(
        project=project,
        name=name,
        kind=Policy.Kind.BASE,
        base_model=place,
        revision=revision,
        origin={"from": printable(place, 400)},
        brought_by=by,
    )
    return _store(policy)


def bring_endpoint(
    project: Project, by: User | None, name: str, *, url: str, model: str, sampling: dict[str, Any]
) -> Policy:
    """Store an endpoint as a policy that writes. Raises RefusalError, naming the field at fault."""
    name = _free_name(project, name)
    find_place(url).connect_to()
    if not model.strip() or not model.isprintable():
        raise RefusalError(_("Name the model as the endpoint calls it."), "model")
    policy = Policy(
        project=project,
        name=name,
        kind=Policy.Kind.EXTERNAL,
        origin={"from": printable(url, 400)},
        brought_by=by,
    )
    given = {key: sampling[key] for key in SAMPLING if sampling.get(key) is not None}
    return _store(policy, Endpoint(url=url.rstrip("/"), model=model.strip(), sampling=given))


def _store(policy: Policy, endpoint: Endpoint | None = None) -> Policy:
    try:
        with transaction.atomic():
            policy.save()
            if endpoint is not None:
                endpoint.policy = policy
                endpoint.save()
            trail.record(
                trail.Verb.BROUGHT_IN,
                policy.brought_by,
                project=policy.project,
                target=f"policy {policy.name}",
                source=policy.origin["from"],
            )
    except IntegrityError as error:  # another one took the name meanwhile
        raise _taken(policy.name) from error
    return policy


def _free_name(project: Project, name: str) -> str:
    name = check_name(name)
    if project.policies.filter(name=name).exists():
        raise _taken(name)
    return name


def _taken(name: str) -> RefusalError:
    sentence = _("Another policy of this project is called “%(name)s”.")
    return RefusalError(sentence % {"name": printable(name)}, "name")


# --- Places ------------------------------------------------------------------------------------------------------


def _copy_adapter(place: str, folder: Path) -> None:
    """Copy the two files of an adapter from an allowed folder or repository. Raises RefusalError."""
    found = base_models.locate(place)
    if found is None:
        raise RefusalError(base_models.explain_refusal(place), "place")
    if not found.startswith("/"):
        _download_adapter(found, folder)
        return
    for name in WANTED:
        path = Path(found) / name
        if not path.is_file() or path.is_symlink():
            raise RefusalError(_("The folder holds no %(name)s.") % {"name": name}, "place")
        with path.open("rb") as source:
            write_file(source, folder / name)


def _download_adapter(repository: str, folder: Path) -> None:
    from huggingface_hub import HfApi, constants, hf_hub_download  # noqa: PLC0415

    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repository, files_metadata=True)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
        for name in WANTED:
            if name not in sizes:
                raise RefusalError(_("The repository holds no %(name)s.") % {"name": name}, "place")
            if sizes[name] > site.IMPORT_LIMIT:
                raise too_large()
            with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
                path = hf_hub_download(repository, name, revision=info.sha, cache_dir=cache)
                with Path(path).open("rb") as source:
                    write_file(source, folder / name)
    except RefusalError:
        raise
    except Exception as error:
        why = printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)
        raise HubError(_("The hub could not be reached: %(why)s.") % {"why": why}, "place") from error


@contextmanager
def _move_refusal(field: str) -> Iterator[None]:
    """Tell what is wrong with the files of an adapter at the field that brought them."""
    try:
        yield
    except RefusalError as error:
        if error.field != "file":
            raise
        raise RefusalError(error.message, field) from error


@contextmanager
def _aside() -> Iterator[Path]:
    """Yield an empty folder on the same disk, which is deleted unless it was moved."""
    site.RUNS.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".bringing-", dir=site.RUNS))
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
