"""`gateway admin-key create`: a key of the admin API, the first one among them."""

import argparse

from gateway.commands.asking import Api, asking
from gateway.commands.console import say_json, say_key


def admin_key(options: argparse.Namespace) -> int:
    def create(api: Api) -> int:
        body = {"name": options.name, "expires_in_seconds": options.expires_in}
        made = api.ask("POST", "/organization/admin_api_keys", body)
        return say_json(made) if options.json else say_key(made)

    return asking(options, create)
