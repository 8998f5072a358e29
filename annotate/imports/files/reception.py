"""A file at the door: turned into lines, recognised, and stored under a name of our own."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core.files.base import File
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.imports.files import earlier
from annotate.imports.files import options as choosing
from annotate.imports.files.options import MAPPED, UNKNOWN, Options
from annotate.imports.reader import Reader
from annotate.models import Import, Project, RefusedRow, User
from annotate.sources import lines, remote
from annotate.sources.formats.views import find_printed, open_cells
from annotate.sources.mappings import proposals
from annotate.storage_errors import is_disk_full, storage_error
from annotate.unnamed_files import drop_unnamed
from annotate.whole_files import save_whole
from primitives.text import make_storable

FOLDER = str(Import._meta.get_field("file").upload_to)
KEPT = timedelta(days=1)  # how long a file may be without its Import: far longer than an upload takes
REFUSED_KEPT = timedelta(days=30)  # how long refused rows can be downloaded, and refused files read otherwise
FETCH_SECONDS = 40  # for a file at an address, in one request

State = Import.State


def receive(
    project: Project,
    by: User | None,
    file: File[Any],
    format: str = "",
    *,
    encoding: str = "",
) -> Import:
    """Store a file to be worked through. `format` and `encoding` are what a person says of it, if anything.

    Raises StorageError, with nothing stored, and FileError for a file that cannot be read.
    """
    filename = (file.name or _("pasted text"))[-200:]
    upload = Import(project=project, created_by=by, filename=filename, size=file.size or 0)
    with lines.as_lines(
        cast(BinaryIO, file.file), filename, settings.IMPORT_LIMIT, container=format, encoding=encoding
    ) as found:
        _describe(upload, found)
        try:
            if found.is_turned:
                _store(upload, "original", file)
                upload.size = _store(upload, "file", File(found.file, "lines"))
            else:
                _store(upload, "file", file)
        except BaseException as error:
            for stored in (upload.file, upload.original):
                with suppress(OSError):
                    if stored.name:
                        stored.storage.delete(stored.name)  # what there is of it
            if isinstance(error, OSError) or is_disk_full(error):
                raise storage_error(error) from error
            raise
    upload.save()
    return upload


def fetch(project: Project, by: User | None, address: str, format: str = "", *, encoding: str = "") -> Import:
    """Store the file at an address, as `receive` does, if its host is allowed."""
    with remote.fetched(address, settings.IMPORT_HOSTS, settings.IMPORT_LIMIT, FETCH_SECONDS) as (copy, name):
        file = File(copy, name)
        file.size = copy.seek(0, os.SEEK_END)
        return receive(project, by, file, format, encoding=encoding)


def restart(upload: Import, **columns: Any) -> bool:
    """Restart the check of a file with these columns changed, and forget what the last one found.

    It is another pass: of its records, and of the steps of windows that still check by the last one.

    False, with nothing changed, if the file waits for no options (any more).
    """
    with transaction.atomic():
        waiting = Import.objects.filter(pk=upload.pk).filter(
            Q(state__in=(State.MAPPING, State.CHECKING, State.READY))
            | Q(state=State.REFUSED, counts__made__isnull=True) & ~Q(file="")
        )
        counts = {"since": time.time()}
        options = {**columns.pop("options", upload.options), "pass": uuid.uuid4().hex}
        changed = waiting.update(
            position=0, line=0, counts=counts, errors=[], finished_at=None, options=options, **columns
        )
        if changed:
            upload.refused_rows.all().delete()
    if changed:
        earlier.forget(upload)
    return changed == 1


def read_otherwise(upload: Import, *, encoding: str = "", sheet: str = "") -> bool:
    """Read the file as it came in another encoding, or another sheet of it, from the start.

    False if it waits for no options (any more).

    Raises FileError and StorageError, with nothing changed, and FileNotFoundError if the file is gone.
    """
    source = upload.original if upload.original else upload.file
    before = {upload.file.name, upload.original.name}
    with source.open("rb") as file:
        opened = cast(BinaryIO, file)
        container = upload.options.get("container", "")
        given = container if container in ("csv", "txt", "jsonl") else ""
        with lines.as_lines(
            opened, upload.filename, settings.IMPORT_LIMIT, container=given, encoding=encoding, sheet=sheet
        ) as found:
            _describe(upload, found)
            if found.is_turned:
                if not upload.original:
                    upload.original = upload.file.name
                try:
                    upload.size = _store(upload, "file", File(found.file, "lines"))
                except OSError as error:
                    raise storage_error(error) from error
            else:
                upload.file, upload.original, upload.size = source.name, "", source.size
    names = {"file": upload.file.name, "original": upload.original.name or ""}
    changed = restart(
        upload,
        state=upload.state,
        format=upload.format,
        options=upload.options,
        size=upload.size,
        **names,
    )
    after = set(names.values())
    for name in before - after if changed else after - before:
        if name:
            upload.file.storage.delete(name)
    return changed


def forget_files(upload: Import) -> None:
    """Delete the files of an import that is over."""
    earlier.forget(upload)
    for stored in (upload.file, upload.original):
        if stored:
            with suppress(OSError):
                stored.delete(save=False)


def sweep() -> None:
    """Delete old files: of uploads that no Import names, of checks that went no further, and of what was refused."""
    earlier.sweep((timezone.now() - KEPT).timestamp())
    old = timezone.now() - REFUSED_KEPT
    RefusedRow.objects.filter(upload__created_at__lt=old).delete()
    refused = Import.objects.filter(state=State.REFUSED, finished_at__lt=old).exclude(file="")
    for upload in refused:
        # Nothing reads the files once the row no longer names them. Until then an admin may have it checked again.
        if refused.filter(pk=upload.pk, file=upload.file.name).update(file="", original=""):
            forget_files(upload)
    drop_unnamed(Import, FOLDER, KEPT, ("file", "original"))


def inspect(found: lines.Lines) -> tuple[Options, list[Any]]:
    """Return how a file's lines are read, as far as it can be told, and its first records."""
    records = choosing.first_records(found.file, found.format, found.separator or ",", found.container)
    recognised = choosing.recognise(records, found.format)
    columns = choosing.columns_of(records)
    options = Options(
        container=found.container,
        compression=found.compression,
        encoding=found.encoding,
        doubt=found.doubt,
        separator=found.separator or ",",
        by_rows=found.is_numbered_by_rows,
        sheets=tuple(map(make_storable, found.sheets)),
        sheet=make_storable(found.sheet),
        format=recognised.name,
        recognised=recognised.name,
        becomes=recognised.becomes,
        usual=recognised.becomes,
        columns=tuple(map(make_storable, columns)),
        header=tuple(map(make_storable, _header(found))),
        printed=make_storable(next(iter(find_printed(records)), "")) if recognised.name == UNKNOWN else "",
        proposal={
            role: column
            for role, column in proposals.propose(columns, [open_cells(record) for record in records]).items()
            if column == make_storable(column)
        },
    )
    return options, records


def _header(found: lines.Lines) -> list[str]:
    """Return the names of a CSV's columns in their order; none of another file."""
    if found.format != "csv":
        return []
    return Reader(found.file, "csv", separator=found.separator or ",", raw=True).columns


def _describe(upload: Import, found: lines.Lines) -> None:
    options, _records = inspect(found)
    if options.format == UNKNOWN:
        options = replace(options, columns_mapped={}, format=UNKNOWN)
    upload.format = found.format
    upload.options = {
        **options.dump(),
        "pass": uuid.uuid4().hex,
        "sample": [make_storable(line) for line in lines.sample(found.file)] if found.encoding else [],
    }
    upload.state = State.MAPPING if options.format == UNKNOWN else State.CHECKING
    upload.position = upload.line = 0
    upload.errors, upload.counts = [], {"since": time.time()}


def proposed(upload: Import) -> Options:
    """Return the mapping to show: the one chosen, one that the project used for such columns, or one by names."""
    options = Options.of(upload)
    if options.columns_mapped:
        return options
    earlier = Import.objects.filter(project=upload.project_id, options__format=MAPPED).exclude(pk=upload.pk)
    for used in earlier.order_by("-pk")[:20]:
        before = Options.of(used)
        if set(before.columns_mapped.values()) <= set(options.columns) and before.columns_mapped:
            return replace(options, columns_mapped=before.columns_mapped, meanings=before.meanings)
    return replace(options, columns_mapped=options.proposal or proposals.propose(options.columns))


def _store(upload: Import, field: str, content: File[Any]) -> int:
    """Store a file for a field of an upload, and return its size."""
    stored = getattr(upload, field)
    suffix = upload.format if field == "file" else "original"
    path = stored.field.generate_filename(upload, f"{uuid.uuid4()}.{suffix}")
    size = int(content.seek(0, os.SEEK_END))  # which the storage has then, or it is an error
    setattr(upload, field, save_whole(stored.storage, path, content, max_length=stored.field.max_length))
    return size
