"""Measure every rule of the HEAR API on a module. Runs in the environment under test, with torch and the standard library only."""
