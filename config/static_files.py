"""Names and compression of static files in production."""

# WhiteNoise has no type annotations.
from whitenoise.storage import CompressedManifestStaticFilesStorage  # type: ignore[import-untyped]


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc] # of an unknown type, as above
    """Name each file by the hash of its content, in the imports of JavaScript modules too."""

    support_js_module_import_aggregation = True
