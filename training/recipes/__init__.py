"""Recommended settings of a training, by the size of the model and the number of pairs."""
