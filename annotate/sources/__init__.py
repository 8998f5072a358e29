"""Files of others, read: what any file holds, as candidates for rows of a project. No database."""
