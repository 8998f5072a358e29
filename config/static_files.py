"""Names, compression and joining of static files in production."""

from collections.abc import Iterator
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, Storage

# WhiteNoise has no type annotations.
from whitenoise.storage import CompressedManifestStaticFilesStorage  # type: ignore[import-untyped]

from config.scripts import join_modules

JOINED = ["desk/desk.js"]  # scripts that leave as one file, with the modules of their folder

Paths = dict[str, tuple[Storage, str]]  # by name: where a file is stored, and as what


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc] # of an unknown type, as above
    """Join modules, and name each file by the hash of its content, in the imports of other modules too."""

    support_js_module_import_aggregation = True

    def post_process(self, paths: Paths, dry_run: bool = False, **options: Any) -> Iterator[Any]:
        for entry in JOINED:
            if entry in paths and not dry_run:
                paths = self._join(entry, paths)
        yield from super().post_process(paths, dry_run=dry_run, **options)

    def _join(self, entry: str, paths: Paths) -> Paths:
        """Put one file in the place of a script and its modules."""

        def read(name: str) -> str:
            storage, stored_name = paths[name]
            with storage.open(stored_name) as file:
                return str(file.read().decode())

        script = join_modules(entry, read)
        joined = InMemoryStorage()
        joined.save(entry, ContentFile(script.text.encode()))
        parts = {name for name in script.modules if name != entry}
        for part in parts:
            self.delete(part)  # collected, and named by no page
        return {name: place for name, place in paths.items() if name not in parts} | {entry: (joined, entry)}
