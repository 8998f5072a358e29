"""Times as pages write them: in the reader's zone, and never without its name."""

from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

# The forms of a time, by name. A day alone has no zone: its title has.
FORMS = {"full": "DATETIME_FORMAT", "day": "DATE_FORMAT", "clock": "TIME_FORMAT", "seconds": "H:i:s"}


def write_moment(at: datetime, form: str = "full") -> str:
    """Return a time in the reader's zone, with the zone's name."""
    local = timezone.localtime(at)
    written = date_format(local, FORMS[form])
    return written if form == "day" else f"{written} {local:%Z}"


def mark_moment(at: datetime, text: str) -> SafeString:
    """Return `text` as the time that it speaks of. The whole of it shows on hovering."""
    local = timezone.localtime(at)
    title = f"{date_format(local, 'DATE_FORMAT')}, {local:%H:%M:%S %Z}"
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), title, text)
