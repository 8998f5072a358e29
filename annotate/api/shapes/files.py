"""The shapes of files that come in and go out: imports with their options, and exports that are prepared."""

from typing import Any

from rest_framework import serializers

from annotate.api.shapes.base import Note, Shape, StrictSerializer
from annotate.api.shapes.rows import OBJECT, WHEN
from annotate.imports import uploads
from annotate.imports.expansion import BECOMES
from annotate.imports.files.options import MAPPED, Options
from annotate.models import Export, Import
from annotate.sources.mappings.mapping import COLUMNS, MEANINGS

FORMATS = ["jsonl", "csv", "txt"]
LONGEST_NAME = 1_000  # of a column


class ImportIn(Shape):
    """A file to import. Without `format` and `encoding`, its name and its bytes tell."""

    EXAMPLE = None

    file = serializers.FileField()
    format = serializers.CharField(required=False, allow_blank=True)
    encoding = serializers.CharField(required=False, allow_blank=True)


class FetchIn(StrictSerializer):
    """A file at an address: `hf://datasets/OWNER/NAME`, or https, of a host that the site allows."""

    EXAMPLE = {"address": "hf://datasets/ada/pairs"}

    address = serializers.CharField(max_length=500)
    format = serializers.ChoiceField(FORMATS, required=False)
    encoding = serializers.CharField(required=False, max_length=40)


class MappingIn(StrictSerializer):
    """Columns by role, and what the values of the verdict mean: `a`, `b`, `tie` or `both_bad`."""

    EXAMPLE = {
        "columns": {"prompt": "question", "completion_a": "left", "completion_b": "right", "verdict": "vote"},
        "meanings": {"L": "a", "R": "b"},
    }

    columns = serializers.DictField(
        child=serializers.CharField(max_length=LONGEST_NAME, trim_whitespace=False), allow_empty=False
    )
    meanings = serializers.DictField(child=serializers.ChoiceField([*MEANINGS]), required=False)


class OptionsIn(StrictSerializer):
    """Options to change. `becomes` is null where each row says what it is; `mapping` is null to read as recognised."""

    EXAMPLE = {"becomes": "judged", "pairs": "best", "empty": True}

    becomes = serializers.ChoiceField(BECOMES, required=False, allow_null=True)
    pairs = serializers.ChoiceField(["all", "best"], required=False)
    without_losses = serializers.BooleanField(required=False)
    empty = serializers.BooleanField(required=False)
    encoding = serializers.CharField(required=False, max_length=40)
    sheet = serializers.CharField(required=False, max_length=LONGEST_NAME, trim_whitespace=False)
    mapping = MappingIn(required=False, allow_null=True)


class OptionsOut(Shape):
    """The way in which a file is read. `format` is null until it is known, and `usual` is what such rows become."""

    EXAMPLE = {
        "format": "trl", "recognised": "trl", "becomes": "judged", "usual": "judged", "container": "jsonl",
        "compression": "", "encoding": "utf-8", "encoding_unsure": False, "separator": ",", "sheets": [], "sheet": "",
        "columns": ["prompt", "chosen", "rejected"], "mapping": None, "pairs": "all",
        "without_losses": False, "empty": False,
    }  # fmt: skip

    format = serializers.CharField(allow_null=True)
    recognised = serializers.CharField(allow_null=True)
    becomes = serializers.ChoiceField(BECOMES, allow_null=True)
    usual = serializers.ChoiceField(BECOMES, allow_null=True)
    container = serializers.CharField()
    compression = serializers.CharField()
    encoding = serializers.CharField()
    encoding_unsure = serializers.BooleanField()
    separator = serializers.CharField()
    sheets = serializers.ListField(child=serializers.CharField())
    sheet = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField(), max_length=COLUMNS)
    mapping = MappingIn(allow_null=True)
    pairs = serializers.CharField()
    without_losses = serializers.BooleanField()
    empty = serializers.BooleanField()

    def to_representation(self, upload: Import) -> dict[str, Any]:
        options = Options.of(upload)
        found = options.dump()
        for name in ("format", "recognised", "becomes", "usual"):
            found[name] = found[name] or None
        found["encoding_unsure"] = bool(options.doubt)
        mapped = {"columns": options.columns_mapped, "meanings": options.meanings}
        found["mapping"] = mapped if options.format == MAPPED else None
        return super().to_representation(found)


class StartIn(StrictSerializer):
    """`update` changes known rows that differ."""

    EXAMPLE = {"update": False}

    update = serializers.BooleanField(  # type: ignore[assignment] # a field, and no method
        required=False, default=False
    )


class ImportOut(serializers.ModelSerializer[Import]):
    """An import. `position` of `size` bytes are read in the pass of its `state`. `errors` are [line, sentence]."""

    EXAMPLE = {
        "id": 3, "filename": "pairs.jsonl", "format": "jsonl", "size": 20480, "position": 20480, "state": "ready",
        "options": OptionsOut.EXAMPLE, "counts": {"found": {"judged": 120}}, "errors": [], "batch": "import 3",
        "created_at": WHEN, "finished_at": None,
    }  # fmt: skip

    options = OptionsOut(source="*")
    counts = Note(OBJECT)
    errors = Note(  # type: ignore[assignment] # a field, and no property
        {"type": "array", "items": {"type": "array"}}
    )
    batch = serializers.SerializerMethodField()
    finished_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Import
        fields = [
            "id", "filename", "format", "size", "position", "state", "options", "counts", "errors", "batch",
            "created_at", "finished_at",
        ]  # fmt: skip

    def get_batch(self, upload: Import) -> str:
        return uploads.batch(upload)


class WithdrawnOut(Shape):
    """The numbers of comparisons and prompts that were withdrawn."""

    EXAMPLE = {"comparisons": 118, "prompts": 60}

    comparisons = serializers.IntegerField()
    prompts = serializers.IntegerField()


class JobOut(serializers.ModelSerializer[Export]):
    """A file that is prepared. `rows` of about `expected` are written. It can be downloaded until `expires_at`."""

    EXAMPLE = {
        "id": "6f1ed002-ab5b-4f4c-9d5a-1f3f2f0b7a11", "state": "done", "query": {"format": ["parquet"]},
        "filename": "reviews.parquet", "rows": 1200, "expected": 1200, "size": 524288, "sha256": "9f86d081884c7d65",
        "error": "", "can_be_downloaded": True, "created_by": "olive", "created_at": WHEN, "finished_at": WHEN,
        "expires_at": WHEN,
    }  # fmt: skip

    query = Note(OBJECT)
    expected = serializers.IntegerField(allow_null=True)
    can_be_downloaded = serializers.BooleanField()
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True, read_only=True)
    expires_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Export
        fields = [
            "id", "state", "query", "filename", "rows", "expected", "size", "sha256", "error", "can_be_downloaded",
            "created_by", "created_at", "finished_at", "expires_at",
        ]  # fmt: skip
