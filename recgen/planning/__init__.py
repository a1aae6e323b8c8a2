"""What a run would cost before it starts: pictures, seconds, memory, disk, money. Arithmetic alone: no torch, no run."""
