"""Weights from and to elsewhere: Hugging Face folders, and the parent that a training goes on from."""
