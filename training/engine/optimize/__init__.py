"""Losses, the optimizer step, and what keeps a training exact across stops and processes."""
