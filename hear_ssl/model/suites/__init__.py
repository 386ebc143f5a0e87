"""Adapters that let other benchmarks run this model, one module per benchmark; `commands` prints how to run them.

An adapter may import its benchmark; nothing else imports an adapter.
"""
