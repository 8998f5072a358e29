"""Files that are sent while they are made: memory stays at a chunk, whatever their length."""

from collections.abc import Iterable, Iterator

from django.http import StreamingHttpResponse

from annotate.models import Snapshot
from annotate.pairs.filters import Filters
from annotate.pairs.lines import lines as as_lines
from annotate.pairs.pair_rows import pair_rows
from annotate.pairs.snapshots import exact_lines

CHUNK = 64 * 1024  # bytes sent together


def snapshot_download(found: Snapshot, shape: str) -> StreamingHttpResponse:
    """Return a snapshot's pairs: `exact`, the lines whose SHA-256 is its digest, or `trl`, for training with TRL."""
    name = f"{found.project.slug}-{found.digest[:12]}-{shape}.jsonl"
    if shape == "exact":
        return download(exact_lines(found), name)
    rows = pair_rows(found.project, Filters(held_out="include"), snapshot=found)
    return download(as_lines(rows), name)


def download(
    lines: Iterable[bytes], filename: str, content_type: str = "application/x-ndjson"
) -> StreamingHttpResponse:
    """Return lines as a file."""
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
