"""What a training comes to: its curve, its measures, held-out scores; and what it saw."""
