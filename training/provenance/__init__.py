"""The origin of policies, for others: lineage as a file, runs to repeat, forgetting, projects that move."""
