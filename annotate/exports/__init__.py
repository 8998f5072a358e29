"""Files that leave: every format, split, described by a card, prepared as a task, and pushed to a hub."""
