"""Where bytes lie, how they are packed, and what they mean: a generator of rows for each format."""
