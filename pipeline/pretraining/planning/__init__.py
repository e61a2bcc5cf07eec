"""What a training will take, in steps, memory, hours and money, before it runs."""
