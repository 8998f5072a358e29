"""Rows to import, and what becomes of them."""

import io
import json
from collections import Counter
from typing import Any

import pytest

from annotate.imports.files.whole import import_whole
from annotate.imports.records import ImportRefusedError
from annotate.models import Completion, Policy, Prompt

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
PAIR = {"prompt": "Once", "completion_a": "upon", "completion_b": "more"}


def import_file(project: Any, file: io.BytesIO, format: str) -> Counter[str]:
    return import_whole(project, file, format).counts


def jsonl(*rows: Any) -> io.BytesIO:
    return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


def text(content: str) -> io.BytesIO:
    return io.BytesIO(content.encode())


def refusal(project: Any, file: io.BytesIO, format: str = "jsonl") -> list[tuple[int, str]]:
    """Return the errors of a refused import. Check that nothing was written."""
    with pytest.raises(ImportRefusedError) as caught:
        import_file(project, file, format)
    assert not Prompt.objects.exists()
    assert not Completion.objects.exists()
    assert not Policy.objects.exclude(pk=project.current_policy_id).exists()
    return caught.value.errors
