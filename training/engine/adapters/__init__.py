"""LoRA adapters: read, checked, put on a model, computed and saved."""
