"""Files of prompts and pairs brought in: upload one, watch its check, start it, withdraw it."""

from typing import Any

from django.db import transaction
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response

from annotate.api.access import Scope, by_token
from annotate.api.errors import ConflictError
from annotate.api.operations.declaration import Call, Endpoint, Listing, operation
from annotate.api.pagination import NewestFirst, page_of
from annotate.api.projects import raise_errors
from annotate.api.shapes.projects import ImportIn, ImportOut, StartIn, WithdrawnOut
from annotate.forms.uploads import UploadForm
from annotate.imports import uploads, writing
from annotate.imports.files import reception
from annotate.imports.files.storage_errors import StorageError
from annotate.models import Import
from annotate.people.access import ADMINS
from annotate.projects import trail
from annotate.sources.errors import FileError

STEP_SECONDS = 1.5  # of work in one request: far below any gateway's patience


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
        "It is checked by `work/`, and written once it was started.",
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
        try:
            made = reception.receive(
                call.project, call.user, form.cleaned_data["file"], form.cleaned_data["format"]
            )
        except StorageError as error:
            raise NoRoomError({"file": [error.message]}) from error
        except FileError as error:
            raise ValidationError({"file": [error.message]}) from error
        return Response(ImportOut(made).data, status=201)


class OneImport(Endpoint):
    tag = "Imports"

    @operation("Get an import", roles=ADMINS, gives=ImportOut)
    def get(self, call: Call, import_id: int) -> Response:
        return Response(ImportOut(_import(call, import_id)).data)


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
        "Begin to write what was checked and is `ready`. `update` also changes known rows that differ.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=StartIn,
        gives=ImportOut,
        refuses=(409, 507),
    )
    def post(self, call: Call, import_id: int) -> Response:
        upload, update = _import(call, import_id), call.given["update"]
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
        comparisons, prompts = uploads.withdraw(_import(call, import_id))
        return Response({"comparisons": comparisons, "prompts": prompts})


def _import(call: Call, import_id: int) -> Import:
    return get_object_or_404(Import, project=call.project, pk=import_id)


def _work(upload: Import) -> None:
    try:
        uploads.work(upload.pk, STEP_SECONDS)
    except StorageError as error:
        raise NoRoomError(error.message) from error
