"""HEAR-format tasks -> embeddings -> predictor -> scores -> leaderboard -> report."""

GRIDS = ("official", "fast", "few-shot")  # searches for the predictor: the benchmark's own, one small network, and none
BASELINES = {"logmel": "log-mel", "untrained": "untrained"}  # what can stand next to a model, by their names in tables
