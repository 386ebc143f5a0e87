"""HEAR-format tasks -> embeddings -> predictor -> scores -> leaderboard -> report."""
