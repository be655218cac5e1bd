"""What was done to the tables since the first release, in order: alembic's folder."""
