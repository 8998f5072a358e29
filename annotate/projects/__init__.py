"""Projects as a whole: their life from creation to the archive, their base model, and the trail of what was done."""
