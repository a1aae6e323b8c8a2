"""What a run would cost before it starts: images, seconds, memory, disk, money. Arithmetic alone: no torch, no run."""
