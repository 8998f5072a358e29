"""Operations of the API: declared, checked, answered once for each key, and described in a schema."""
