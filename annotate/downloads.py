"""Files that are sent while they are made: memory stays at a chunk, whatever their length."""

from collections.abc import Iterable, Iterator

from django.http import StreamingHttpResponse

from annotate import exporting
from annotate.models import Snapshot

CHUNK = 64 * 1024  # bytes sent together


def snapshot_download(found: Snapshot, shape: str) -> StreamingHttpResponse:
    """A snapshot's pairs: `exact`, the lines whose SHA-256 is its digest, or `trl`, for training with TRL."""
    name = f"{found.project.slug}-{found.digest[:12]}-{shape}.jsonl"
    if shape == "exact":
        return download(exporting.exact_lines(found), name)
    rows = exporting.export_rows(found.project, exporting.Filters(held_out=True), snapshot=found)
    return download(exporting.lines(rows), name)


def download(lines: Iterable[bytes], filename: str) -> StreamingHttpResponse:
    """Lines of JSON as a file."""
    return StreamingHttpResponse(
        _chunks(lines),
        content_type="application/x-ndjson",
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
