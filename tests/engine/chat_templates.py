"""The chat templates of well-known models, each in a few lines, on a tokenizer that knows their tokens."""

from typing import Any

from benchmarks.templates import make_tokenizer
from training.engine.data.tokens import EncodedPair, Encoder, EncodingReport
from training.engine.records import Message, TrainingCompletion, TrainingPair

_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ BODY }}<|im_end|>\n{% endfor %}"
_ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_CALLS = (
    "{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}{% endif %}"
)
_SPLIT = (
    "{% set text = m.content or '' %}{% set thoughts = m.reasoning_content or '' %}"
    "{% if '</think>' in text %}"
    "{% set thoughts = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
)
_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    + _SPLIT
    + "{% if m.role == 'assistant' and loop.last %}"
    "<think>\n{{ thoughts }}\n</think>\n\n{% endif %}{{ text }}" + _CALLS + "<|im_end|>\n{% endfor %}"
)
TEMPLATES = {
    "chatml": _CHATML.replace("{{ BODY }}", "{{ m.content }}" + _CALLS) + _ASK,
    "qwen3": _THINKING + _ASK,
    "qwen3.5": _THINKING + _ASK.replace("assistant\n", "assistant\n<think>\n"),
    "mistral": "<s>{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>{% else %}[INST] "
    "{{ m.content }}[/INST]{% endif %}{% endfor %}",
    "gpt-oss": "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.thinking %}<|start|>assistant<|channel|>"
    "analysis<|message|>{{ m.thinking }}<|end|>{% endif %}<|start|>assistant<|channel|>final<|message|>"
    "{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}{% else %}<|start|>{{ m.role }}<|message|>"
    "{{ m.content }}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    "command": "{% for m in messages %}<|START_OF_TURN_TOKEN|>{{ m.role }}{% if m.role == 'assistant' %}"
    "<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>{% else %}{{ m.content }}{% endif %}<|END_OF_TURN_TOKEN|>"
    "{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|>assistant{% endif %}",
    "glm": "{% for m in messages %}{% if m.role == 'tool' %}<|observation|>{% else %}<|{{ m.role }}|>{% endif %}"
    "{{ '\n' }}{{ m.content }}"
    "{% if m.tool_calls %}<tool_call>{{ m.tool_calls[0].function.name }}</tool_call>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}{# <|user|> <|assistant|> #}",
    "gemma": "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}",
    "r1": "{% for m in messages %}{% if m.role == 'assistant' %}<|Assistant|>{{ m.content.split('</think>')[-1] }}</s>"
    "{% else %}<|User|>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
    "parts": "{% for m in messages %}<|im_start|>{{ m.role }}: {% for p in m.content %}{{ p.text }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}",
}
ASKED: list[Message] = [{"role": "user", "content": "it cost?"}]


def make_encoder(name: str, *, ends: set[str] | None = None, **settings: Any) -> Encoder:
    """Return an encoder with one of the templates; `ends` takes the place of the ends that the model's files name."""
    tokenizer, found = make_tokenizer(TEMPLATES[name])
    if ends is not None:
        found = frozenset(tokenizer.convert_tokens_to_ids(list(ends)))
    return Encoder(tokenizer, eos_ids=found, vocab_size=len(tokenizer), max_length=4096, **settings)


def completion(text: str | Message, **more: Any) -> TrainingCompletion:
    """Return a completion of a text, or of an assistant's message without its role."""
    return TrainingCompletion(text=text if isinstance(text, str) else [{"role": "assistant"} | text], **more)


def encode(
    using: Encoder,
    text: str | Message | TrainingCompletion,
    prompt: str | list[Message] = ASKED,
    tools: list[dict[str, Any]] | None = None,
) -> tuple[EncodedPair | None, EncodingReport]:
    """Return a pair with `text` as the chosen completion, and the report."""
    chosen = text if isinstance(text, TrainingCompletion) else completion(text)
    other = TrainingCompletion(text="", token_ids=(0, 1), finish_reason="length")
    encoded, report = using.encode_pairs(
        [TrainingPair(id="1", prompt=prompt, chosen=chosen, rejected=other, tools=tools)]
    )
    return (encoded[0] if encoded else None), report


def written(
    using: Encoder, text: str | Message | TrainingCompletion, prompt: str | list[Message] = ASKED
) -> str:
    """Return the tokens that are trained on, decoded, control tokens included."""
    pair, report = encode(using, text, prompt)
    assert pair is not None, report.refusals
    return str(using.tokenizer.decode(pair.chosen))


def refusal(
    using: Encoder, text: str | Message | TrainingCompletion, prompt: str | list[Message] = ASKED
) -> str:
    """Return the sentence with which the pair is left out."""
    pair, report = encode(using, text, prompt)
    assert pair is None
    return report.refusals[0].partition("left out: ")[2]
