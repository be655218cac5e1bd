"""Chat completions: POST /chat/completions."""

from gateway.simulator import errors, params
from gateway.simulator.book import Meta
from gateway.simulator.call import Call, Handlers, JsonReply, Reply
from gateway.simulator.families import chat_answer, chat_stored, chat_stream
from gateway.simulator.world import World


async def create(world: World, call: Call) -> Reply:
    """POST /chat/completions."""
    params.metadata(call.body)
    completion = chat_answer.complete(world, call)
    meta = Meta(completion.usage, completion.model, completion.tier, completion.id)
    if params.flag(call.body, "stream"):
        return chat_stream.reply(world, call, completion, meta)
    if call.body.get("stream_options") is not None:
        raise errors.ApiError(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    value = chat_answer.whole(world, completion)
    if params.flag(call.body, "store"):
        chat_stored.keep(world, call.body, value)
    return JsonReply(value, meta)


HANDLERS: Handlers = (("createChatCompletion", create),)
