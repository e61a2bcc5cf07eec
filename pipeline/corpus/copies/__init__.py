"""How copies are told: the keys of texts, lines and shingles, compiled."""
