"""The verb `scale`: how far a trained policy is from its reference, and its adapter scaled down to a budget of that."""
