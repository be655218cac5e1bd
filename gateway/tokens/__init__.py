"""JWTs, for both planes: the keys of those who issue them, the check of a token, and what its claims say.

keys.py reads key sets and download.py fetches them; key_cache.py keeps an issuer's at hand; check.py checks a token
against an issuer; bearers.py says whom a token of the settings' issuers speaks for, and remembers it.
"""
