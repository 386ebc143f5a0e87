"""Export of a checkpoint as a wheel and a source tree: packaging, verification, publication."""
