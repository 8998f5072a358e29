"""Files to upload on the page *Import*."""

import json
from typing import Any

URL = "/p/reviews/import/"


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"prompt {number}", "completion_a": "one", "completion_b": "two", **more}
