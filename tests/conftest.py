"""What holds for every test: fixtures, and property tests that try the same examples each time, however slow the
machine is."""

import hypothesis

pytest_plugins = [
    "tests.fakes.databases",
    "tests.fakes.measuring",
    "tests.fakes.redis_servers",
    "tests.fakes.gateway_fixtures",
]

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")
