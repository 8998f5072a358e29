"""The site's storage of files, from the value of WHETSTONE_STORAGE."""

import importlib.util
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

LOCAL = "django.core.files.storage.FileSystemStorage"


def storage_options(place: str) -> dict[str, Any]:
    """Return Django's settings for files in `s3://bucket/prefix`, in `file:///folder`, or in a storage class."""
    scheme, _, rest = place.partition("://")
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        options = {"bucket_name": bucket, "location": prefix.strip("/")}
        return {"BACKEND": "config.bucket.BucketStorage", "OPTIONS": options}
    if scheme == "file":
        return {"BACKEND": LOCAL, "OPTIONS": {"location": rest}}
    return {"BACKEND": place or LOCAL}


def find_fault(place: str) -> str:
    """Return the mistake in a value of WHETSTONE_STORAGE, in a sentence; empty if there is none."""
    scheme, separator, rest = place.partition("://")
    if not separator:  # nothing, or a class
        return ""
    if scheme == "file":
        return _find_fault_of_folder(rest)
    if scheme != "s3":
        return f"WHETSTONE_STORAGE is {place}: Whetstone knows s3://bucket/prefix and file:///folder."
    bucket, _, prefix = rest.partition("/")
    if not bucket or ".." in prefix.split("/"):
        return "WHETSTONE_STORAGE names no bucket and prefix: write s3://bucket/prefix."
    missing = not all(map(importlib.util.find_spec, ("storages", "boto3")))
    return "Files in a bucket need the extra s3: pip install -c constraints.txt '.[s3]'." if missing else ""


def _find_fault_of_folder(name: str) -> str:
    if not name.startswith("/"):
        return f"WHETSTONE_STORAGE names no folder: write file:///{name}."
    folder, var = Path(name).resolve(), Path(settings.VAR)
    if folder == var or folder.is_relative_to(var / "runs"):
        return "WHETSTONE_STORAGE is where workers have their run directories: name another folder."
    return ""


@register()
def check_storage(**_options: Any) -> list[CheckMessage]:
    """Check WHETSTONE_STORAGE, as every command and worker does when it starts."""
    fault = find_fault(settings.STORAGE_PLACE)
    return [Error(fault, id="whetstone.E001")] if fault else []


def require_storage() -> None:
    """Refuse to start with a mistake in WHETSTONE_STORAGE. Raises ImproperlyConfigured."""
    if fault := find_fault(settings.STORAGE_PLACE):
        raise ImproperlyConfigured(fault)
