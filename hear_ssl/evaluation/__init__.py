"""HEAR-format tasks -> embeddings -> predictor -> scores -> leaderboard -> report."""

GRIDS = ("official", "fast", "few-shot")  # search for the predictor: that of the benchmark, one small network, or none
BASELINES = {"logmel": "log-mel", "untrained": "untrained"}  # names of the baselines in tables
