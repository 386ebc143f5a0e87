"""From a checkpoint to a wheel and a source tree: packaging, verification, publication."""
