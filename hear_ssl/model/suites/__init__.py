"""Adapters that let other benchmarks run this model, one module a benchmark; `commands` has how to run them.

An adapter may import its benchmark; nothing else imports an adapter.
"""
