"""The standings of policies and gates in the judgments."""
