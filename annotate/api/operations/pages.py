"""The schema as a file, and the page on which it is browsed. Both are open to all: they hold what this code does."""

import hashlib
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.generic import View
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.operations.declaration import client_has, mark
from annotate.api.parsing import refuse_unknown


class YAMLRenderer(JSONRenderer):
    """Stands for YAML in the choice of a content type. The file is made by `schema_file`."""

    media_type = "application/vnd.oai.openapi"
    format = "yaml"


class OpenAPIRenderer(JSONRenderer):
    media_type = "application/vnd.oai.openapi+json"


KINDS = {"yaml": YAMLRenderer.media_type, "json": JSONRenderer.media_type}


class SchemaView(APIView):
    """The schema, as YAML, or as JSON by `Accept` or `?format=json`."""

    schema = None
    authentication_classes = []
    permission_classes = [AllowAny]
    renderer_classes = [YAMLRenderer, JSONRenderer, OpenAPIRenderer]

    def handle_exception(self, exc: Exception) -> Response:
        """Return an error as JSON, whatever was asked for."""
        response = super().handle_exception(exc)
        response.content_type = JSONRenderer.media_type
        return response

    def get(self, request: Request) -> HttpResponse | Response:
        refuse_unknown(request.query_params, {"format"})
        accepted = request.accepted_renderer
        asked = request.query_params.get("format") or accepted.format
        if asked not in KINDS:
            raise ValidationError({"format": [_("Must be yaml or json.")]})
        content = schema_file(asked, get_language() or "")
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if client_has(request, etag):
            return mark(Response(status=304), etag)
        kind = accepted.media_type if accepted.format == asked else KINDS[asked]
        return mark(HttpResponse(content, content_type=f"{kind}; charset=utf-8"), etag)


@lru_cache(maxsize=8)
def schema_file(file_format: str, language: str) -> bytes:
    """Return the schema as a file. It is the same until the code changes."""
    renderers = {"json": OpenApiJsonRenderer, "yaml": OpenApiYamlRenderer}
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    content: Any = renderers[file_format]().render(schema, renderer_context={})
    return bytes(content)


class DocsPage(View):
    """The page that shows the schema, and sends requests from it."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "annotate/api_docs.html")
