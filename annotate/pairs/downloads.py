"""Files that are sent while they are made: memory stays at a chunk, whatever their length."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.http import StreamingHttpResponse

from annotate.models import Snapshot
from annotate.pairs import exports

CHUNK = 64 * 1024  # bytes sent together


def rows_download(
    rows: Iterable[Mapping[str, Any]],
    columns: Iterable[str],
    name: str,
    format: str,
    *,
    for_spreadsheets: bool = False,
) -> StreamingHttpResponse:
    """Rows as a file of this format: jsonl, or csv."""
    if format == "csv":
        lines = exports.csv_lines(rows, columns, for_spreadsheets=for_spreadsheets)
        return download(lines, f"{name}.csv", "text/csv; charset=utf-8")
    return download(exports.lines(rows), f"{name}.jsonl")


def snapshot_download(found: Snapshot, shape: str) -> StreamingHttpResponse:
    """Return a snapshot's pairs: `exact`, the lines whose SHA-256 is its digest, or `trl`, for training with TRL."""
    name = f"{found.project.slug}-{found.digest[:12]}-{shape}.jsonl"
    if shape == "exact":
        return download(exports.exact_lines(found), name)
    rows = exports.export_rows(found.project, exports.Filters(held_out=True), snapshot=found)
    return download(exports.lines(rows), name)


def download(
    lines: Iterable[bytes], filename: str, content_type: str = "application/x-ndjson"
) -> StreamingHttpResponse:
    """Lines as a file."""
    return StreamingHttpResponse(
        _chunks(lines),
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"},
    )


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)
