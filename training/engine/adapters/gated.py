"""Gated feed-forward blocks of transformers, known by their classes."""

from torch import nn

# The library repeats this block in each architecture's file. These are all of its copies in language models that have
# the names and the computation of Llama's. A class that is not here is computed by its own forward, which keeps more.
_BLOCKS = frozenset(
    """
    AXK1MLP AXK2MLP AfmoeMLP AriaSharedExpertsMLP BailingHybridMLP BambaMLP BltMLP ChameleonMLP Cohere2MLP
    Cohere2MoeMLP CohereCompassMLP CohereMLP CsmMLP CwmMLP DeepseekOcr2TextMLP DeepseekV2MLP DeepseekV32MLP
    DeepseekV3MLP DiffLlamaMLP DiffusionGemmaText4MLP DogeMLP Dots1MLP Dots3NoteTextMLP Emu3MLP Ernie4_5MLP
    Ernie4_5_MoeMLP Ernie4_5_VLMoeMLP EvollaMLP Exaone4MLP ExaoneMoeMLP FlexOlmoMLP FlintMLP Gemma2MLP
    Gemma3MLP Gemma4TextMLP Gemma4UnifiedTextMLP GemmaMLP Glm4MoeLiteMLP Glm4MoeMLP Glm4vMoeTextMLP
    GlmMoeDsaMLP Granite4VisionTextMLP GraniteDoclingTextMLP GraniteMLP GraniteSWAMLP HYV3MLP HYV4MLP
    HeliumMLP HiggsAudioV2MLP HrmTextMLP HunYuanDenseV1MLP HunYuanMoEV1MLP HunYuanVLMLP HyperCLOVAXMLP
    JambaMLP KimiLinearMLP Kolibri1MLP LagunaMLP LlamaMLP LongcatFlashMLP MellumMLP MiMoV2FlashMLP
    MiniCPM3MLP Ministral3MLP MinistralMLP Mistral4MLP MistralLarge4TextMLP MistralMLP MllamaTextMLP
    Molmo2MLP MuseGlimmerAssistantMLP MuseGlimmerTextMLP MuseSparkTextMLP Olmo2MLP Olmo3MLP OlmoHybridMLP
    OlmoMLP OlmoeMLP Ovis2MLP PaddleOCRMLP Qwen2MLP Qwen2MoeMLP Qwen3MLP Qwen3MoeMLP Qwen3NextMLP
    Qwen3OmniMoeMLP Qwen3OmniMoeTalkerTextMLP Qwen3OmniMoeThinkerTextMLP Qwen3VLMoeTextMLP Qwen3VLTextMLP
    Qwen3_5MLP Qwen3_5MoeMLP Qwen4ExpTextMLP SmolLM3MLP SolarOpenMLP StableLmMLP UnlimitedOcrTextMLP
    VaultGemmaMLP VibeVoiceMLP VoxtralRealtimeTextMLP YoutuMLP ZambaMLP
    """.split()  # noqa: SIM905 - a hundred quoted names would hide what is in them
)


def is_gated(module: nn.Module) -> bool:
    """Return whether a module computes down_proj(act_fn(gate_proj(x)) * up_proj(x)), and nothing else."""
    kind = type(module)
    return kind.__name__ in _BLOCKS and kind.__module__.startswith("transformers.models.")
