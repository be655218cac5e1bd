"""The downstream side: aiohttp's connection, the request's target and head, and the answer's bytes."""
