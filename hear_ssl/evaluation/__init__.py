"""HEAR-format tasks -> embeddings -> predictor -> scores -> leaderboard -> report."""

GRIDS = ("official", "fast")  # searches for the predictor: the benchmark's own, and one small network
