"""HEAR-format tasks -> embeddings -> probe -> scores -> leaderboard -> report."""
