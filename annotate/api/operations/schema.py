"""The OpenAPI schema, written from the declarations of the operations by drf-spectacular.

Only what describes an operation is here. The same declaration checks what an operation does (`declaration.py`).
"""

from __future__ import annotations

import json
import re
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from annotate.api.operations.declaration import Listing, Operation, Stream
from annotate.api.operations.links import add_links
from annotate.api.operations.repeats import KEY_HEADER, LONGEST_KEY
from annotate.api.shapes.base import ErrorOut, StrictSerializer

INTRODUCTION = """\
Bring prompts and pairs in, judge from a client of your own, lead rounds, and take preference pairs out.

Send a token from the page *API tokens* with each request, as `Authorization: Bearer wst_…`. A token has a scope: `read`
looks, `judge` also judges, `admin` may do what its owner may do. The role of its owner in the project is asked after
that.

Every error is `{"error": "a sentence", "field": "the path to the field that it speaks of, or null"}`.
"""
# Status -> what it means, and an example of its sentence and field.
ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("The request is wrong. `field` names where.", "Unknown filter.", "colour"),
    401: (
        "There is no token, or one that is unknown, revoked or expired.",
        "This token is unknown or was revoked: make one on the page “API tokens”.",
        None,
    ),
    403: (
        "The token’s scope, or your role in the project, does not allow this.",
        "This needs a token with the scope “admin”. This one has “read”.",
        None,
    ),
    404: (
        "There is no such thing, or it is not yours to see.",
        "There is no such project, or you are not a member of it.",
        None,
    ),
    406: (
        "No content type that was asked for is answered here.",
        "Could not satisfy the request Accept header.",
        None,
    ),
    409: ("It comes too late, or too early. Nothing was changed.", "This import is over already.", None),
    413: ("The body is too large.", "The body is larger than 2.0 MB: send it in parts.", None),
    415: (
        "The address does not take this kind of body.",
        "Unsupported media type “text/plain” in request.",
        None,
    ),
    422: (
        "Another request was sent with this key.",
        "Another request was sent with this key within a day. Give each request a key of its own.",
        KEY_HEADER,
    ),
    507: ("The server has no room. Nothing was lost.", "The server’s disk is full. Nothing was lost.", None),
}
# The chapters, in the order of a reader's work.
TAGS = {
    "Projects": "Your projects, and the settings of one.",
    "Prompts": "Prompts, and the completions that policies wrote for them.",
    "Comparisons": "Pairs of completions to judge, gold, and flags.",
    "Imports": "Files of prompts and pairs.",
    "Judging": "The next comparison, a verdict, and what was judged.",
    "Exports": "Preference pairs and judgments, as they are now or frozen.",
    "Rounds": "Training: start it, watch it, decide about its policy.",
    "Policies": "Policies, and how strong they are.",
    "Quality": "How well it is judged.",
    "Members": "Members, invitations, and the trail of who did what.",
}
EVERYWHERE = (400, 401, 403, 406)
MEANINGS = {
    200: "Done.",
    201: "Made.",
    202: "Asked for. Ask again for its state.",
    204: "Done. There is nothing to say.",
    304: "You have it.",
}
PAGE_PARAMETERS = (
    OpenApiParameter("cursor", str, description="From `next` of the page before."),
    OpenApiParameter(
        "page_size",
        {"type": "integer", "minimum": 1},
        description="Rows of a page: 100 is usual, 1,000 the most.",
    ),
)
KEY_PARAMETER = OpenApiParameter(
    KEY_HEADER,
    {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    description="A key of your own. Sent again with it within a day, the request is answered as before.",
)
ETAG_PARAMETER = OpenApiParameter(
    "If-None-Match",
    {"type": "string", "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    description="The `ETag` of what you have.",
)
LINES, JSON = "application/x-ndjson", "application/json"
NO_OPERATION = Operation(summary="")


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes our tokens."""

    target_class = "annotate.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": _("A token of the page “API tokens”.")}


class NoteField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Describes a value that says itself what it may be."""

    target_class = "annotate.api.shapes.base.Note"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return dict(self.target.schema)


class OperationSchema(AutoSchema):
    """Writes the schema of an operation from its declaration."""

    @property
    def declared(self) -> Operation:
        handler = getattr(self.view, self.method.lower(), None)
        return getattr(handler, "operation", NO_OPERATION)

    def is_excluded(self) -> bool:
        return not self.declared.summary

    def get_summary(self) -> str:
        return self.declared.summary

    def get_operation_id(self) -> str:
        name = re.sub(r"\W+", "_", self.declared.summary.lower()).strip("_")
        # Several addresses export, by one view.
        file = re.search(r"([\w.]+?)/?$", self.path)
        is_shared = isinstance(self.declared.gives, Stream) and not getattr(self.view, "tag", "") and file
        return f"{name}_{file[1].replace('.', '_')}" if is_shared and file else name

    def get_tags(self) -> list[str]:
        return [getattr(self.view, "tag", "") or "Exports"]

    def get_description(self) -> str:  # type: ignore[override] # as drf-spectacular calls it
        declared = self.declared
        roles = ", ".join(f"`{role}`" for role in declared.roles or ())
        who = f"Roles: {roles}." if roles else "Roles: every member." if declared.roles is not None else ""
        return "\n\n".join(
            filter(None, [declared.details, f"Token scope: `{declared.scope}`. {who}".strip()])
        )

    def get_extensions(self) -> dict[str, Any]:
        roles = self.declared.roles
        return {
            "x-scope": str(self.declared.scope),
            "x-roles": None if roles is None else [str(r) for r in roles],
        }

    def get_override_parameters(self) -> list[Any]:
        declared = self.declared
        found: list[Any] = []
        if declared.query is not None:
            found += [_parameter(name, one) for name, one in declared.query.base_fields.items()]
        if isinstance(declared.gives, Listing):
            found += PAGE_PARAMETERS
        if declared.has_key:
            found.append(KEY_PARAMETER)
        if declared.has_etag or declared.keeps:
            found.append(ETAG_PARAMETER)
        return found

    def get_request_serializer(self) -> Any:
        return self.declared.takes or self.declared.body

    def get_response_serializers(self) -> Any:
        declared = self.declared
        answers: dict[Any, Any] = {**self._success(declared)}
        if (later := declared.later) is not None:
            answers[202] = OpenApiResponse(later, MEANINGS[202], [_example(later.EXAMPLE, 202)])  # type: ignore[attr-defined]
        if declared.has_etag or declared.keeps:
            answers[304] = OpenApiResponse(description=MEANINGS[304])
        has_body = declared.takes is not None or declared.body is not None
        statuses = {*EVERYWHERE, *declared.refuses}
        statuses |= {404} if "{" in self.path else set()
        statuses |= {413, 415} if has_body else set()
        statuses |= {422} if declared.has_key else set()
        for status in sorted(statuses):
            shape = declared.refused if status == 400 and declared.refused else ErrorOut
            meaning, sentence, field = ERRORS[status]
            value = shape.EXAMPLE if shape is not ErrorOut else {"error": sentence, "field": field}  # type: ignore[attr-defined]
            answers[status] = OpenApiResponse(shape, meaning, [_example(value, status)])
        return answers

    def _success(self, declared: Operation) -> dict[Any, Any]:
        status, gives = declared.status, declared.gives
        meaning = MEANINGS[status]
        if gives is None:
            return {status: OpenApiResponse(description=meaning)}
        if isinstance(gives, Stream):
            lines = OpenApiResponse(OpenApiTypes.STR, meaning, [_example(gives.example, status, LINES)])
            files = {kind: OpenApiResponse(OpenApiTypes.BINARY, meaning) for kind in gives.also}
            if JSON in files:
                rows = [_example([json.loads(gives.example)], status)]
                files[JSON] = OpenApiResponse({"description": "As the format says."}, meaning, rows)
            return {(status, kind): one for kind, one in {LINES: lines, **files}.items()}
        if isinstance(gives, Listing):
            shape: Any = gives.of
            row = self.resolve_serializer(shape, "response").ref
            value = {"next": None, "previous": None, "results": [gives.of.EXAMPLE]}  # type: ignore[attr-defined]
            return {status: OpenApiResponse(_page_schema(row), meaning, [_example(value, status)])}
        return {status: OpenApiResponse(gives, meaning, [_example(gives.EXAMPLE, status)])}  # type: ignore[attr-defined]

    def get_examples(self) -> list[OpenApiExample]:
        shape = self.declared.takes or self.declared.body
        value = getattr(shape, "EXAMPLE", None)
        return [OpenApiExample("A request", value, request_only=True)] if value is not None else []

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = super()._map_basic_serializer(  # type: ignore[no-untyped-call]
            serializer, direction
        )
        if isinstance(serializer, StrictSerializer):
            schema["additionalProperties"] = False
        return schema

    def _get_serializer_name(self, serializer: Any, direction: Any, bypass_extensions: bool = False) -> str:
        name = super()._get_serializer_name(serializer, direction, bypass_extensions)
        return re.sub(r"(In|Out)(Request)?$", r"\2", str(name))


def _example(value: Any, status: int, kind: str = "application/json") -> OpenApiExample:
    return OpenApiExample("An answer", value, response_only=True, status_codes=[str(status)], media_type=kind)


def _page_schema(row: dict[str, Any]) -> dict[str, Any]:
    address = {"type": ["string", "null"], "format": "uri"}
    return {
        "type": "object",
        "required": ["next", "previous", "results"],
        "properties": {"next": address, "previous": address, "results": {"type": "array", "items": row}},
    }


def _parameter(name: str, field: forms.Field) -> OpenApiParameter:
    """Return the parameter that a field of a form of filters reads."""
    kinds: tuple[tuple[type[forms.Field], dict[str, Any]], ...] = (
        (forms.BooleanField, {"type": "boolean"}),
        (forms.IntegerField, {"type": "integer", "minimum": 1}),
        (forms.FloatField, {"type": "number"}),
        (forms.DateField, {"type": "string", "format": "date"}),
    )
    schema = next((dict(kind) for one, kind in kinds if type(field) is one), {"type": "string"})
    if type(field) is forms.ChoiceField:
        choices: Any = field.choices
        schema |= {"enum": [value for value, _label in choices if value != ""]}
    return OpenApiParameter(name, schema, description=str(field.help_text or field.label or ""))


def finish(result: dict[str, Any], **_options: Any) -> dict[str, Any]:
    """Complete the schema, and write what many operations share once. A hook of drf-spectacular."""
    result["info"]["description"] = INTRODUCTION
    result["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    _drop(result, "x-spec-enum-id")  # a note of drf-spectacular for itself
    shared: dict[str, Any] = {}
    for described in (one for methods in result["paths"].values() for one in methods.values()):
        for parameter in described.get("parameters", []):
            if parameter["in"] == "path" and parameter["name"] == "slug":
                parameter |= {"example": "reviews", "description": "The slug of the project."}
        for status, answer in described["responses"].items():
            if int(status) in ERRORS:
                name = next((name for name, known in shared.items() if known == answer), f"Error{status}")
                name = name if shared.setdefault(name, answer) == answer else f"{name}OfRows"
                shared[name] = answer
                described["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    add_links(result["paths"])
    result["components"]["responses"] = dict(sorted(shared.items()))
    return result


def _drop(value: Any, key: str) -> None:
    """Remove a key wherever it is."""
    if isinstance(value, dict):
        value.pop(key, None)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _drop(inner, key)
