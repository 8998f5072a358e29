"""The rows of files of run directories that are in the site's storage."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class StoredFile(models.Model):
    """A file of a run directory that is in the site's storage. Its object there is named by its content.

    Rows are the truth: an object that no row names is what an upload left behind. `storage/courier.py` writes the rows
    of a round that runs, fenced by its attempts.
    """

    folder = models.CharField(max_length=200, help_text=_("The run directory, below var/."))
    path = models.CharField(max_length=300, help_text=_("In the folder."))
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField(help_text=_("In bytes."))
    stored_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["folder", "path"]
        constraints = [models.UniqueConstraint(fields=["folder", "path"], name="one_stored_file_per_path")]

    def __str__(self) -> str:
        return f"{self.folder}/{self.path}"

    @property
    def key(self) -> str:
        """Return the name of its object in the storage."""
        return f"{self.folder}/{self.sha256}"
