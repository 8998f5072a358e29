"""Requests with an `Idempotency-Key`: sent again with the same key, one is answered as before and does nothing more.

The answer is stored in the transaction of what was done. A request that was refused did nothing, so its key is
free. The second of two at once waits for the first on the unique index.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.http import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from annotate.api.access import get_user
from annotate.models import StoredAnswer
from annotate.models.inbox import StoredAnswerQuerySet

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
LONGEST_KEY = 200
SWEPT_AT_A_TIME = 100


class OtherRequestError(APIException):
    """The refusal of a key that another request was sent with."""

    status_code = 422

    def __init__(self) -> None:
        sentence = _(
            "Another request was sent with this key within a day. Give each request a key of its own."
        )
        super().__init__({KEY_HEADER: [sentence]})


def answer_once(request: Request, act: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """Return what `act` answers, or the stored answer where the request's key has one."""
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return act()
    if not re.fullmatch(f"[!-~]{{1,{LONGEST_KEY}}}", key):
        sentence = _("A key has 1 to %(most)d printable ASCII characters and no space.") % {
            "most": LONGEST_KEY
        }
        raise ValidationError({KEY_HEADER: [sentence]})
    user, told = get_user(request), _digest(request)
    _sweep(StoredAnswer.objects.filter(user=user, key=key))
    _sweep(StoredAnswer.objects.all())
    try:
        with transaction.atomic():
            with transaction.atomic():  # waits for another request with this key
                stored = StoredAnswer.objects.create(user=user, key=key, request=told)
            answer = act()
            if isinstance(answer, Response):
                stored.status, stored.body = answer.status_code, _plain(answer.data)
                stored.save(update_fields=["status", "body"])
            return answer
    except IntegrityError:
        found = StoredAnswer.objects.filter(user=user, key=key).first()
        if found is None:
            raise
    if found.request != told:
        raise OtherRequestError
    return Response(found.body, status=found.status, headers={REPLAYED_HEADER: "true"})


def _sweep(among: StoredAnswerQuerySet) -> None:
    """Delete answers that are older than a day, a few at a time. The hourly sweep deletes the others."""
    old = among.expired().values_list("pk", flat=True)[:SWEPT_AT_A_TIME]
    StoredAnswer.objects.filter(pk__in=list(old)).delete()


def _digest(request: Request) -> str:
    """Return the hash of what the request asks for."""
    sha = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    data: Any = request.data
    for name in sorted(data) if isinstance(data, dict) else []:
        value = data[name]
        sha.update(f"\n{name}:".encode("utf-8", "surrogatepass"))
        if isinstance(value, UploadedFile):
            for chunk in value.chunks():
                sha.update(chunk)
            value.seek(0)
        else:
            sha.update(json.dumps(value, sort_keys=True).encode())
    if not isinstance(data, dict):
        sha.update(json.dumps(data, sort_keys=True).encode())
    return sha.hexdigest()


def _plain(data: Any) -> Any:
    """Return an answer as JSON holds it, with times as text."""
    return json.loads(json.dumps(data, cls=JSONEncoder))
