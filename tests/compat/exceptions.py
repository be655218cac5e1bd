"""The methods of the official clients that the suites do not have to see answered, each with its reason.

Named as in Python; the Node client's names are the same in another spelling.
"""

NO_CALL = {
    "webhooks.unwrap": "reads what has come, here",
    "webhooks.verify_signature": "checks what has come, here",
    "beta.agents.sessions.artifacts.for_result": "only remembers what to ask for",
}
_MADE_THERE = "only OpenAI makes such objects: the answer is 404, with the right class of error"
NOT_THERE = {
    "beta.agents.sessions.artifacts.delete": _MADE_THERE,
    "beta.agents.sessions.artifacts.retrieve": _MADE_THERE,
    "beta.agents.sessions.subagents.retrieve": _MADE_THERE,
    "beta.agents.sessions.subagents.turns.retrieve": _MADE_THERE,
    "beta.agents.sessions.turns.retrieve": _MADE_THERE,
    "beta.chatkit.threads.delete": _MADE_THERE,
    "beta.chatkit.threads.retrieve": _MADE_THERE,
    "safety.alerts.retrieve": _MADE_THERE,
    "safety.cases.retrieve": _MADE_THERE,
}
_NO_HEADERS = "made for browsers, where a socket cannot send headers that would say it: realtime.test.mjs calls it"
UNMARKED = {
    "beta/realtime/websocket": _NO_HEADERS,
    "realtime/websocket": _NO_HEADERS,
}
