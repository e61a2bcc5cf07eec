"""Stops that were asked for, ranks that hang or die, steps that aren't finite, trainings that learn nothing."""
