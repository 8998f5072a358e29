"""The form of a prompt: its text, or the messages of its chat as JSON."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.imports.contents import TEXT_LIMIT, check_prompt
from annotate.imports.reader import RowError
from annotate.models import Prompt
from annotate.text.chats import Content
from annotate.text.json_values import JSONError, parse_json


class PromptForm(forms.Form):
    """A prompt to correct. A plain one stays text, and a chat stays a chat."""

    content = forms.CharField(
        max_length=10 * TEXT_LIMIT, strip=False, label=_("Prompt"), widget=forms.Textarea(attrs={"rows": 16})
    )

    def __init__(self, data: Any = None, *, prompt: Prompt) -> None:
        self.is_chat = not isinstance(prompt.content, str)
        content = prompt.content
        super().__init__(
            data,
            initial={
                "content": json.dumps(content, ensure_ascii=False, indent=2) if self.is_chat else content
            },
        )
        if self.is_chat:
            self.fields["content"].label = _("Messages, as JSON")
            self.fields["content"].widget.attrs |= {"class": "mono", "spellcheck": "false"}

    def clean_content(self) -> Content:
        text = self.cleaned_data["content"].replace("\r\n", "\n")
        try:
            return check_prompt(self._messages(text) if self.is_chat else text)
        except (JSONError, RowError) as error:
            raise forms.ValidationError(str(error)) from error

    def _messages(self, text: str) -> Any:
        messages = parse_json(text)
        if not isinstance(messages, list):
            raise RowError(_("A chat is a list of messages."))
        return messages
