"""Direct Preference Optimization from a run directory, in PyTorch. The verbs are at the top: train, sample, score."""
