"""Training on several processes: gather with gradients, batch normalisation over all ranks, gradient cache."""
