"""OpenAI's preference fine-tuning: an input of messages and tools, and two outputs."""

from collections.abc import Mapping

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import preferred
from annotate.sources.messages import as_answer, read_chat, read_content, read_tools

OUTPUTS = ("preferred_output", "non_preferred_output")


def _fits(record: Record) -> bool:
    source = record.get("input")
    return isinstance(source, Mapping) and "messages" in source and fields.has_contents(record, *OUTPUTS)


def _read(record: Record) -> Candidate:
    source = record["input"]
    metadata = {
        **(fields.rest(source, "messages", "tools") or {}),
        **(fields.rest(record, "id", "input", *OUTPUTS) or {}),
    }
    return preferred(
        record,
        ("input", *OUTPUTS),
        read_chat(source["messages"], "input.messages"),
        [as_answer(read_content(record[key], key), key) for key in OUTPUTS],
        tools=read_tools(source.get("tools")),
        metadata=metadata or None,
    )


PREFERENCES = Format("openai", noop("OpenAI preference fine-tuning"), JUDGED, _fits, _read)
