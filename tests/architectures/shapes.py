"""Tiny configurations of transformers' causal language models, one a model type.

Sizes shrink by the names that configurations give them. What makes an architecture special stays in sight at that
size: windows, sparse attention and changes of the position encoding begin within the first few dozen tokens, and
hybrid models have a layer of each kind.
"""

import inspect
from typing import Any

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.engine.conftest import VOCABULARY

CLASSES: dict[str, str] = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
POSITIONS = 128
LONG = 32  # tokens: the original length of LongRoPE
WINDOW = 16  # tokens: of windows, chunks, and what sparse attention keeps

_SIZES: list[tuple[int, str]] = [
    (VOCABULARY, "vocab_size vocab_size_per_layer_input unpadded_vocab_size"),
    (
        32,
        "hidden_size d_model n_embd emb_dim embedding_dim embedding_size input_embedding_size output_embedding_size"
        " word_embed_proj_dim lru_width dim_model_base embed_dim out_hidden_size pronunciation_embed_dim"
        " shape_embed_dim pronunciation_vocab_size shape_vocab_size image_size",
    ),
    (
        48,
        "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner ffn_hidden_size dff dim_ff"
        " feed_forward_size intermediate_size_mlp dense_intermediate_size d_inner",
    ),
    # So many index heads that no two keys have the same score, of 0.
    (
        16,
        "index_n_heads moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size"
        " expert_ffn_hidden_size shared_intermediate_size q_lora_rank kv_lora_rank o_lora_rank"
        " shared_experts_intermediate_size router_hidden_size hc_lowrank ple_embed_dim laurel_rank prompt_mid_dim"
        " linear_key_head_dim linear_value_head_dim",
    ),
    (
        8,
        "head_dim dim_head attention_head_size qk_nope_head_dim qk_rope_head_dim v_head_dim"
        " index_head_dim swa_head_dim kv_channels d_head rotary_dim adapter_rank d_rel"
        " mamba_d_state state_size ssm_state_size time_step_rank mamba_dt_rank gated_norm_rank global_head_dim"
        " patch_size",
    ),
    (
        4,
        "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads"
        " num_decoder_attention_heads num_encoder_attention_heads num_experts num_local_experts n_routed_experts"
        " moe_num_experts swa_num_attention_heads num_hidden_layers n_layer n_layers num_layers"
        " decoder_layers encoder_layers num_decoder_layers num_encoder_layers num_blocks block_multiple_of depth"
        " linear_num_key_heads linear_num_value_heads full_attention_interval prompt_length num_buckets",
    ),
    (
        2,
        "num_key_value_heads num_kv_heads num_experts_per_tok num_experts_per_token moe_topk moe_k"
        " swa_num_key_value_heads num_global_key_value_heads num_layers_per_stack num_mem_blocks n_groups",
    ),
    (
        1,
        "n_group topk_group num_expert_group moe_layer_start_index first_k_dense_replace num_dense_layers"
        " mamba_n_groups mamba_ngroups zero_expert_num",
    ),
    (
        POSITIONS,
        "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions model_max_length context_length",
    ),
    (
        WINDOW,
        "sliding_window window_size attention_window_size attention_chunk_size sliding_window_size keep_window_size"
        " index_topk chunk_size mamba_chunk_size",
    ),
]
_NAMED = {name: size for size, names in _SIZES for name in names.split()}
_ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}

# What the names alone do not say.
_SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 16, "attn_layer_indices": [1, 3]},
    "granitemoehybrid": {
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "layer_types": ["mamba", "attention", "mamba", "attention"],
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mamba2": {"num_heads": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16]},
    "phi3": {
        "original_max_position_embeddings": LONG,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
            "original_max_position_embeddings": LONG,
        },
    },
    "dots1": {"n_shared_experts": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0}
            for kind in ("full_attention", "sliding_attention")
        }
    },
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": None,
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {"o_groups": 4},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2},
}


def tiny_config(kind: str, **changes: Any) -> transformers.PreTrainedConfig:
    """Return a configuration of model type `kind` whose model has at most a few hundred thousand weights."""
    factory = transformers.CONFIG_MAPPING[kind]
    return factory(**(_settings(factory) | _SPECIAL.get(kind, {}) | changes))


def _settings(factory: Any) -> dict[str, Any]:
    """Return the settings of a configuration class that have a tiny value, those of its parts included."""
    takes = set(inspect.signature(factory).parameters)
    for base in factory.__mro__:
        takes |= set(getattr(base, "__annotations__", {}))
    found: dict[str, Any] = {name: size for name, size in (_NAMED | _ENDS).items() if name in takes}
    if "kv_lora_rank" in found:  # latent attention: as many heads of keys as of queries
        found["num_key_value_heads"] = found["num_attention_heads"]
    for name, part in getattr(factory, "sub_configs", {}).items():
        if part is not transformers.AutoConfig:
            found[name] = _settings(part)
    return found
