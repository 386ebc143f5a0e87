"""HEAR modules in separate Python environments: a process there computes embeddings, everything else runs here."""
