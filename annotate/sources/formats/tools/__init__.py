"""Files that annotation tools write: the texts that were compared, and what each annotator said."""
