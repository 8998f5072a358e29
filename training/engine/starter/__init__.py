"""The starter model: the film reviews that it learns from, and how it is made."""
