"""The machine that a run is on: its devices, its memory, and limits on what a step may take of it."""
