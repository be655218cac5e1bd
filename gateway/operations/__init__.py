"""OpenAI's API as data: one row an operation, and the matcher from a request to its row."""
