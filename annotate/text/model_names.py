"""Model names in a text: the pattern of completions that say which model wrote them."""

import re
from collections.abc import Iterable

# A completion that says who wrote it. Names alone are left out: films have characters called Claude, too.
MODELS = (
    "ChatGPT|GPT|Claude|Gemini|Bard|Copilot|Llama|Vicuna|Alpaca|Mistral|Mixtral|Qwen|DeepSeek|Grok|Phi|Gemma|Falcon|"
    "OLMo|T[uü]lu|Yi|DBRX|PaLM|LaMDA|ERNIE|Baichuan|ChatGLM|GLM|InternLM|Kimi|Zephyr|StableLM|SmolLM|Pythia|"
    "Nemotron|Granite|Jamba|Hunyuan|Doubao|MiniMax|Reka|BLOOM|OPT|Guanaco|WizardLM|OpenAssistant|MPT|Command R"
)
MAKERS = (
    "OpenAI|Anthropic|Google|DeepMind|Meta|Mistral|Alibaba|DeepSeek|xAI|Microsoft|Cohere|LMSYS|Databricks|Ai2|"
    "the Allen Institute|the Technology Innovation Institute|TII|01.AI|Hugging ?Face|Stability AI|Baidu|Tencent|"
    "Zhipu|Moonshot|NVIDIA|EleutherAI|MosaicML"
)
A_MODEL = r"(?:(?:AI |large |generative |artificial intelligence )*language model|AI model|LLM)"
AN_AI = rf"(?:{A_MODEL}|AI(?: assistant| chatbot| system)?|artificial intelligence)"
I_AM = r"\b(?:I am|I['’]m|my name is|call me)\s+(?:(?:called|named)\s+)?"
# Words of policies without a name of their own. A text that has them does not tell who wrote it.
NO_NAME = re.compile(
    "starter|round|model|policy|base|adapter|checkpoint|step|version|run|test|new|old|human|reference|baseline",
    re.IGNORECASE,
)


def make_name_pattern(names: Iterable[str] = ()) -> re.Pattern[str]:
    """Return the pattern of texts that tell who wrote them. `names` are a project's own, of policies and base models.

    Such a name counts anywhere if it could be nothing else ("vicuna-13b"). Its beginning ("vicuna") counts only
    where the text introduces its writer, as do the names of well-known models.
    """
    known, anywhere = [MODELS], []
    for name in names:
        own = name.rstrip("/").rpartition("/")[2]
        family = re.split(r"[\W\d_]", own, maxsplit=1)[0]
        if len(family) < 3 or NO_NAME.fullmatch(family):
            continue
        known.append(re.escape(family))
        if re.search(r"\d", own):
            anywhere.append(rf"(?<!\w){re.escape(own)}(?!\w)")
    return re.compile(
        "|".join(
            [
                rf"{I_AM}(?:{'|'.join(known)})\b(?!['’]s)",
                rf"\b(?:I am|I['’]m)\s+(?:\w+, )?(?:just |only |merely )?an? {AN_AI}(?=[,.:;!\n]|\s\w+ed\b|$)",
                rf"\bas an? (?:{A_MODEL}\b|{AN_AI},? I\b)",
                r"\b(?:I am|I['’]m|I was|model|assistant|chatbot|AI)\b[^.!?\n]{0,80}"
                r"\b(?:created|made|built|developed|trained|fine-?tuned)\s+by\s+"
                rf"(?:[\w ]{{0,40}} (?:at|from) )?(?:{MAKERS})\b",
                *anywhere,
            ]
        ),
        re.IGNORECASE,
    )
