"""A dry run: what a run would train on, how long it would take, and how much memory it would need."""
