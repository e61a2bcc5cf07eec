"""The encoder: what one micro-batch costs and teaches, on a CPU and on a GPU."""
