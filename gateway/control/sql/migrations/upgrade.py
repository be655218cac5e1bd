"""Runs the migrations over a connection that is open, in its transaction."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Brings the tables to a revision. Raises SQLAlchemyError, and alembic's CommandError for an unknown one."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def newest() -> str | None:
    """The revision that the files lead to."""
    return ScriptDirectory.from_config(_config()).get_current_head()
