"""Every causal class of transformers, at tiny size, through the engine's verbs and against independent computations."""
