"""Who is calling: from the headers alone to a principal."""
