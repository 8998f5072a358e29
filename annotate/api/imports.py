"""Files of prompts and pairs brought in: upload or fetch one, say how it is read, start it, withdraw it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response

from annotate.api.access import Scope, by_token
from annotate.api.errors import ConflictError
from annotate.api.operations.declaration import Call, Endpoint, Listing, Stream, operation
from annotate.api.pagination import NewestFirst, page_of
from annotate.api.projects import raise_errors
from annotate.api.shapes.files import FetchIn, ImportIn, ImportOut, OptionsIn, StartIn, WithdrawnOut
from annotate.api.shapes.rows import CountOut
from annotate.forms.uploads import UploadForm, becomes_choices
from annotate.imports import uploads, writing
from annotate.imports.expansion import BECOMES
from annotate.imports.files import reception
from annotate.imports.files.options import MAPPED, SAID_BY_ROWS, UNKNOWN, Options
from annotate.imports.files.refused import refused_lines
from annotate.judgments import places
from annotate.models import Import
from annotate.pairs.downloads import download
from annotate.people.access import ADMINS
from annotate.projects import trail
from annotate.sources import encodings
from annotate.sources.errors import FileError
from annotate.sources.mappings import mapping
from annotate.storage_errors import StorageError
from primitives.text import printable

STEP_SECONDS = 1.5  # of work in one request: far below any gateway's patience
PLAIN = ("iso8859", "cp", "koi8", "mac")  # families of encodings, beside those that are offered
REFUSED_LINE = '{"line": 4, "reason": "prompt is empty.", "record": {"prompt": ""}}'
MEANINGS_AT_MOST = 100
VALUE_LIMIT = 200  # characters of a verdict's value


class NoRoomError(APIException):
    """The refusal of a file that the server could not store."""

    status_code = 507


class Imports(Endpoint):
    tag = "Imports"
    parser_classes = [MultiPartParser]

    @operation("List imports", "The newest first.", roles=ADMINS, gives=Listing(ImportOut))
    def get(self, call: Call) -> Response:
        return page_of(call.request, Import.objects.filter(project=call.project), ImportOut, NewestFirst)

    @operation(
        "Upload a file",
        "It is checked by `work/`, and written once it was started. What is not recognised waits for a mapping.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        body=ImportIn,
        gives=ImportOut,
        status=201,
        has_key=True,
        refuses=(507,),
    )
    def post(self, call: Call) -> Response:
        data: Any = call.request.data
        form = UploadForm({name: data[name] for name in ("format",) if name in data}, call.request.FILES)
        raise_errors(form)
        encoding = _codec(str(data.get("encoding", "")))
        try:
            made = reception.receive(
                call.project,
                call.user,
                form.cleaned_data["file"],
                form.cleaned_data["format"],
                encoding=encoding,
            )
        except StorageError as error:
            raise NoRoomError({"file": [error.message]}) from error
        except FileError as error:
            raise ValidationError({"file": [error.message]}) from error
        return Response(ImportOut(made).data, status=201)


class Fetching(Endpoint):
    tag = "Imports"

    @operation(
        "Fetch a file",
        "From an address whose host the site allows. It then goes on as an upload does.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=FetchIn,
        gives=ImportOut,
        status=201,
        refuses=(507,),
    )
    def post(self, call: Call) -> Response:
        given, encoding = call.given, _codec(call.given.get("encoding", ""))
        try:
            made = reception.fetch(
                call.project, call.user, given["address"], given.get("format", ""), encoding=encoding
            )
        except StorageError as error:
            raise NoRoomError({"address": [error.message]}) from error
        except FileError as error:
            raise ValidationError({"address": [error.message]}) from error
        return Response(ImportOut(made).data, status=201)


class OneImport(Endpoint):
    tag = "Imports"

    @operation("Get an import", roles=ADMINS, gives=ImportOut)
    def get(self, call: Call, import_id: int) -> Response:
        return Response(ImportOut(_import(call, import_id)).data)


class ImportOptions(Endpoint):
    tag = "Imports"

    @operation(
        "Change the options of an import",
        "While it is `mapping`, `ready` or `refused`. It is checked again from the start; what is not named stays. "
        "An `encoding` is changed alone, as it may change what is recognised. So is the `sheet` of a workbook.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=OptionsIn,
        gives=ImportOut,
        refuses=(409, 507),
    )
    def patch(self, call: Call, import_id: int) -> Response:
        upload, given = _import(call, import_id), call.given
        if not uploads.takes_options(upload):
            raise ConflictError(
                _("This import takes no options now: it is %(state)s.") % {"state": upload.state}
            )
        is_begun = (
            _read_otherwise(upload, given)
            if "encoding" in given or "sheet" in given
            else uploads.check_again(upload, _chosen(upload, given))
        )
        if not is_begun:
            raise ConflictError(_("This import was started or cancelled meanwhile."))
        _work(upload)
        return Response(ImportOut(_import(call, import_id)).data)


def _read_otherwise(upload: Import, given: Mapping[str, Any]) -> bool:
    """Read the file in another encoding, or another sheet of it. Raises ValidationError."""
    name = "encoding" if "encoding" in given else "sheet"
    value = _codec(given[name]) if name == "encoding" else given[name]
    if len(given) > 1:
        raise ValidationError({name: [_("Change it alone: another may change what is recognised.")]})
    if not getattr(Options.of(upload), name):
        none = {
            "encoding": _("A file of this kind has no encoding to choose."),
            "sheet": _("A file of this kind has no sheets to choose from."),
        }
        raise ValidationError({name: [none[name]]})
    try:
        return reception.read_otherwise(upload, **{name: value})
    except StorageError as error:
        raise NoRoomError(error.message) from error
    except FileError as error:
        raise ValidationError({name: [error.message]}) from error
    except FileNotFoundError as error:
        raise ConflictError(_("The file is no longer in the server’s storage: upload it again.")) from error


def _codec(given: str) -> str:
    """Return Python's name of an encoding of plain text, or an empty text for none. Raises ValidationError.

    Python has stranger ones, such as `punycode` and `unicode_escape`, in which no file comes.
    """
    found = encodings.find_codec(given) if given else ""
    if given and found not in encodings.ENCODINGS and not found.startswith(PLAIN):
        raise ValidationError(
            {"encoding": [_("There is no encoding “%(name)s”.") % {"name": printable(given, 40)}]}
        )
    return found


def _chosen(upload: Import, given: Mapping[str, Any]) -> Options:
    """Return the options of an upload with what is given laid over them. Raises ValidationError."""
    before = Options.of(upload)
    options = _mapped(before, given["mapping"]) if "mapping" in given else before
    if options.format == UNKNOWN:
        raise ValidationError({"mapping": [_("Say which column is the prompt.")]})
    options = replace(
        options, **{name: given[name] for name in ("pairs", "without_losses", "empty") if name in given}
    )
    if "becomes" not in given:
        return options
    becomes = given["becomes"] or SAID_BY_ROWS
    if becomes not in _possible(before, options, upload.counts.get("figures", {})):
        raise ValidationError({"becomes": [_("The rows of this file do not hold what that needs.")]})
    return replace(options, becomes=becomes)


def _possible(before: Options, options: Options, figures: Mapping[str, int]) -> set[str]:
    """Return what the rows can become: by the last check, or by a reading that is new since."""
    if (options.format, options.columns_mapped) == (before.format, before.columns_mapped):
        return {name for name, _label in becomes_choices(options, figures)}
    if options.format != MAPPED:
        return {*BECOMES, options.usual}
    usual = options.source.becomes if options.source else ""
    return {"judged": {*BECOMES}, "comparisons": {"prompts", "comparisons"}}.get(usual, {"prompts"})


def _mapped(options: Options, given: Mapping[str, Any] | None) -> Options:
    """Return options by a mapping, or by what was recognised if there is none. Raises ValidationError."""
    if given is None:
        return replace(options, format=options.recognised, becomes=options.usual)
    columns, meanings = given["columns"], given.get("meanings", {})
    for role, column in columns.items():
        if role not in mapping.ROLES:
            sentence = _("There is no such role. Roles are: %(roles)s.") % {"roles": ", ".join(mapping.ROLES)}
            raise ValidationError({f"mapping.columns.{printable(role, 40)}": [sentence]})
        if column not in options.columns:
            sentence = _("The file has no column “%(name)s”.") % {"name": printable(column, 60)}
            raise ValidationError({f"mapping.columns.{role}": [sentence]})
    if len(meanings) > MEANINGS_AT_MOST or any(len(value) > VALUE_LIMIT for value in meanings):
        raise ValidationError({"mapping.meanings": [_("These are too many values, or too long ones.")]})
    by_hand = mapping.Mapping(columns, meanings)
    if problem := by_hand.problem():
        raise ValidationError({"mapping": [problem]})
    return replace(options, format=MAPPED, columns_mapped=columns, meanings=meanings, becomes=by_hand.becomes)


class RefusedRows(Endpoint):
    tag = "Imports"

    @operation(
        "Download the rows that cannot be used",
        "One row a line, with its line in the file, the reason, and the record as it came.",
        roles=ADMINS,
        gives=Stream(REFUSED_LINE),
    )
    def get(self, call: Call, import_id: int) -> HttpResponseBase:
        upload = _import(call, import_id)
        return download(refused_lines(upload), f"{call.project.slug}-import-{upload.pk}-refused.jsonl")


class Work(Endpoint):
    tag = "Imports"

    @operation(
        "Work on an import",
        "Check or write for a second or two. Repeat it until `state` is neither `checking` nor `running`.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=ImportOut,
        refuses=(507,),
    )
    def post(self, call: Call, import_id: int) -> Response:
        upload = _import(call, import_id)
        _work(upload)
        return Response(ImportOut(_import(call, import_id)).data)


class Start(Endpoint):
    tag = "Imports"

    @operation(
        "Start an import",
        "Begin to write what was checked and is `ready`. `update` also changes known rows that differ. Where "
        "`encoding_unsure` is true, send the `encoding` as an option first.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=StartIn,
        gives=ImportOut,
        refuses=(409, 507),
    )
    def post(self, call: Call, import_id: int) -> Response:
        upload, update = _import(call, import_id), call.given["update"]
        if upload.state == Import.State.READY and Options.of(upload).doubt:
            sentence = _(
                "It is unsure. Look at the texts, and send the encoding as an option before you start."
            )
            raise ValidationError({"encoding": [sentence]})
        with transaction.atomic():
            if not uploads.start(upload, update=update):
                raise ConflictError(
                    _("This import cannot be started: it is %(state)s.") % {"state": upload.state}
                )
            trail.record(
                trail.Verb.IMPORTED,
                call.user,
                project=call.project,
                target=upload.filename,
                **by_token(call.request, **writing.details(update=update)),
            )
        _work(upload)
        return Response(ImportOut(_import(call, import_id)).data)


class Cancel(Endpoint):
    tag = "Imports"

    @operation(
        "Cancel an import",
        "What was brought in before stays, and can be withdrawn.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=ImportOut,
        refuses=(409,),
    )
    def post(self, call: Call, import_id: int) -> Response:
        upload = _import(call, import_id)
        if not uploads.cancel(upload):
            raise ConflictError(_("This import is over already."))
        return Response(ImportOut(_import(call, import_id)).data)


class WithdrawImport(Endpoint):
    tag = "Imports"

    @operation(
        "Withdraw an import",
        "Take what it brought in and is not judged out of the queue, and its unused prompts out of use.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=WithdrawnOut,
    )
    def post(self, call: Call, import_id: int) -> Response:
        comparisons, prompts = uploads.withdraw(_import(call, import_id), call.user, **by_token(call.request))
        return Response({"comparisons": comparisons, "prompts": prompts})


class AskingPeople(Endpoint):
    tag = "Imports"

    @operation(
        "Ask people about an import",
        "As many annotators as the project asks for judge what it brought in judged, without seeing those verdicts.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=CountOut,
    )
    def post(self, call: Call, import_id: int) -> Response:
        return _ask(call, _import(call, import_id))

    @operation(
        "Ask people no more about an import",
        "Hand out no more what it brought in judged. What people judged is kept.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=CountOut,
    )
    def delete(self, call: Call, import_id: int) -> Response:
        return _ask_no_more(call, _import(call, import_id))


class AskingPeopleAboutAll(Endpoint):
    tag = "Imports"

    @operation(
        "Ask people about all imported judgments",
        "As about one import, with what a command or the API brought in, too.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=CountOut,
    )
    def post(self, call: Call) -> Response:
        return _ask(call, None)

    @operation("Ask people no more about any", scope=Scope.ADMIN, roles=ADMINS, gives=CountOut)
    def delete(self, call: Call) -> Response:
        return _ask_no_more(call, None)


def _ask(call: Call, upload: Import | None) -> Response:
    count = places.ask_people(call.project, uploads.batch(upload) if upload else "")
    return _told(call, upload, trail.Verb.ASKED, count)


def _ask_no_more(call: Call, upload: Import | None) -> Response:
    count = places.ask_no_more(call.project, uploads.batch(upload) if upload else "")
    return _told(call, upload, trail.Verb.ASKED_NO_MORE, count)


def _told(call: Call, upload: Import | None, verb: trail.Verb, count: int) -> Response:
    """Return how many comparisons changed, and tell the trail if any did."""
    if count:
        name = upload.filename if upload else ""
        trail.record(verb, call.user, project=call.project, target=name, **by_token(call.request))
    return Response({"count": count})


def _import(call: Call, import_id: int) -> Import:
    return get_object_or_404(Import, project=call.project, pk=import_id)


def _work(upload: Import) -> None:
    try:
        uploads.work(upload.pk, STEP_SECONDS)
    except StorageError as error:
        raise NoRoomError(error.message) from error
