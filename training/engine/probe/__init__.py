"""A probe: a small judge of completions, fitted to people's votes on the frozen base model's hidden states."""
