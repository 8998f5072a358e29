"""Policies from elsewhere: a PEFT adapter, a model, or an endpoint that writes, each checked before it is stored."""

import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Self, cast

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
from training.usage.naming import check_name
from training.usage.places import drop_adapter, keep_adapter
from training.usage.weights_check import (
    CONFIG,
    MOST_CONFIG,
    WEIGHTS,
    check_adapter,
    make_json_error,
)

CHUNK = 1 << 20
DESCRIPTIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
LONGEST_DESCRIPTION = 1024 * 1024  # bytes
MEMBERS = 10_000  # of an archive that are looked at
WANTED = (CONFIG, WEIGHTS)
PICKLES = (".bin", ".pt", ".pth", ".pkl")
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


# --- Archives ----------------------------------------------------------------------------------------------------


def unpack(file: BinaryIO, folder: Path) -> None:
    """Write the two files of an adapter from a zip or tar archive into a folder. Raises RefusalError.

    Nothing else of the archive is written anywhere. Both must be plain files in one folder, and within the limit.
    """
    file.seek(0)
    kind = file.read(4)
    file.seek(0)
    try:
        if kind.startswith(b"PK"):
            _unpack_zip(file, folder)
        else:
            _unpack_tar(file, folder)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        zlib.error,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RefusalError(_("The file is not a zip or tar archive that can be read."), "file") from error
    except RuntimeError as error:  # of zipfile, for one with a password
        raise RefusalError(_("The archive is encrypted."), "file") from error


def _unpack_zip(file: BinaryIO, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MEMBERS:
            raise _too_many()
        links = {one.filename for one in members if (one.external_attr >> 16) & 0o170000 == 0o120000}
        files = [one for one in members if not one.is_dir()]
        names = {one.filename: one for one in files}
        for wanted, name in _places([one.filename for one in files], links).items():
            if names[name].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile  # the others unpack a whole block before it can be counted
            with archive.open(names[name]) as source:
                _write(source, folder / wanted)


def _unpack_tar(file: BinaryIO, folder: Path) -> None:
    """Read a tar archive twice: for its names, and for the two files. Both times no more than the limit."""
    names, links = list[str](), set[str]()
    with _tar(file) as archive:
        for number, member in enumerate(archive):
            if number >= MEMBERS:
                raise _too_many()
            names.append(member.name)
            if not (member.isreg() or member.isdir()):
                links.add(member.name)
    places = {name: wanted for wanted, name in _places(names, links).items()}
    file.seek(0)
    with _tar(file) as archive:
        for member in archive:
            source = archive.extractfile(member) if member.name in places and member.isreg() else None
            if source is not None:
                _write(source, folder / places[member.name])


class _Member(tarfile.TarInfo):
    """A member whose own description is short: `tarfile` reads a long one whole, before anything can count it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in DESCRIPTIONS and member.size > LONGEST_DESCRIPTION):
            raise tarfile.ReadError("A member's description is too long.")
        return member


@contextmanager
def _tar(file: BinaryIO) -> Iterator[tarfile.TarFile]:
    """Open a tar file, compressed or not, as a stream: unpacked it may be no longer than the limit."""
    with tarfile.open(fileobj=cast(Any, _Limited(file)), mode="r|*", tarinfo=_Member) as archive:
        limited = cast(Any, archive)
        read, room = limited.fileobj.read, [site.IMPORT_LIMIT * 2]

        def counted(size: int) -> bytes:
            content: bytes = read(size)
            room[0] -= len(content)
            if room[0] < 0:
                raise _too_large()
            return content

        limited.fileobj.read = counted
        yield archive


class _Limited:
    """The file alone, without what `tarfile` might close."""

    def __init__(self, file: BinaryIO) -> None:
        self.read: Callable[[int], bytes] = file.read


def _places(names: list[str], links: set[str]) -> dict[str, str]:
    """Return where an archive keeps each of the two files. Raises RefusalError, saying what is wrong with it."""
    found: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.name not in WANTED:
            continue
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise RefusalError(_("The archive holds a path that leads elsewhere."), "file")
        if name in links:
            raise RefusalError(_("The archive holds a link in the place of a file."), "file")
        if found.get(path.name) == name:
            sentence = _("The archive holds a file twice: %(name)s.")
            raise RefusalError(sentence % {"name": printable(name)}, "file")
        if path.name in found:
            raise RefusalError(_("The archive holds more than one adapter. Pack one alone."), "file")
        found[path.name] = name
    if missing := [one for one in WANTED if one not in found]:
        pickled = [name for name in names if PurePosixPath(name).name.endswith(PICKLES)]
        if WEIGHTS in missing and pickled:
            sentence = _(
                "Only safetensors are read, and the weights are in %(name)s. Save them with PEFT once more."
            )
            raise RefusalError(sentence % {"name": printable(pickled[0])}, "file")
        raise RefusalError(_("The archive holds no %(name)s.") % {"name": missing[0]}, "file")
    if PurePosixPath(found[CONFIG]).parent != PurePosixPath(found[WEIGHTS]).parent:
        raise RefusalError(_("The two files of the adapter are in different folders."), "file")
    return found


def _write(source: IO[bytes], path: Path) -> None:
    """Copy a member, no more than its limit, and have it on the disk."""
    room = MOST_CONFIG if path.name == CONFIG else int(site.IMPORT_LIMIT)
    with path.open("xb") as file:
        while content := source.read(CHUNK):
            room -= len(content)
            if room < 0:
                raise make_json_error(CONFIG) if path.name == CONFIG else _too_large()
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _too_large() -> RefusalError:
    megabytes = site.IMPORT_LIMIT // 1024 // 1024
    sentence = _("The adapter is larger than %(megabytes)d MB (WHETSTONE_IMPORT_MEGABYTES).")
    return RefusalError(sentence % {"megabytes": megabytes}, "file")


def _too_many() -> RefusalError:
    return RefusalError(_("The archive holds too many files. Pack the adapter alone."), "file")


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
            _write(source, folder / name)


def _download_adapter(repository: str, folder: Path) -> None:
    from huggingface_hub import HfApi, constants, hf_hub_download  # noqa: PLC0415

    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repository, files_metadata=True)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
        for name in WANTED:
            if name not in sizes:
                raise RefusalError(_("The repository holds no %(name)s.") % {"name": name}, "place")
            if sizes[name] > site.IMPORT_LIMIT:
                raise _too_large()
            with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
                path = hf_hub_download(repository, name, revision=info.sha, cache_dir=cache)
                with Path(path).open("rb") as source:
                    _write(source, folder / name)
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
