"""Request bodies: the shared budget, decoding, and the few fields that decide where a call goes."""
