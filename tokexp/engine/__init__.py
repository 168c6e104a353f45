"""Training: the loop, its state and checkpoints, optimizer and schedule (timm's), processes, device batches."""
