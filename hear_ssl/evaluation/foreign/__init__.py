"""HEAR modules in Python environments of their own: a process there embeds, everything else happens here."""
