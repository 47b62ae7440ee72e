"""What is measured beside the requests: Triton, GPUs, processes, replica states and batches, on the run clock."""
