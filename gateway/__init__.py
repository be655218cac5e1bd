"""A self-hosted gateway in front of OpenAI's API."""

__version__ = "0.1.0"
