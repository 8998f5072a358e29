"""The formats of preference data that are recognised: `find_format` names a file's, and `rows` reads its records.

A format is a Format in a module of its family: how a record is recognised, and what it says as Candidates. FORMATS
lists them, the most specific first.
"""

from annotate.sources.formats.format import Format
from annotate.sources.formats.registry import FORMATS, find_format

__all__ = ["FORMATS", "Format", "find_format"]
