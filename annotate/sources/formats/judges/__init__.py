"""Benchmarks of judges and of models: two outputs of an instruction, and what judges said of them."""
