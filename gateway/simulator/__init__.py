"""A fake OpenAI for the demo and the tests, driven by the operation table. The oracle: see its book."""
