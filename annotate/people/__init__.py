"""People: how they sign in, what they may see, how they join a project, and the keys that they chose."""
