"""The protocol of the benchmark: embeddings, grid search, predictor, events, scores."""
