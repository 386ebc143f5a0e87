"""Training on several processes: gathering with gradients, batch normalisation over all ranks, gradient caching."""
