"""A base model: found, loaded and run, up to the log-probabilities of completions."""
