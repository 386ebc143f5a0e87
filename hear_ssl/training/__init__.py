"""Pretraining: config, data module, Lightning module, trainer, resume, probe and callbacks."""
