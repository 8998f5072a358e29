"""The parts of `make gpu-check`: what only a GPU can show."""
