"""Measures every rule of the HEAR API on a module. Runs in the environment under test: torch and the standard library."""
