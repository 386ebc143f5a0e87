"""Pretraining: config, data module, Lightning module, trainer, resume, probe and callbacks."""

from hear_ssl.machine import name_user

name_user()  # before Lightning loads torch._dynamo, which asks for the name
