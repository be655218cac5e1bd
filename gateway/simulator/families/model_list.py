"""Models: list, retrieve, delete."""

from gateway.simulator import catalog, errors
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.world import World

_CREATED = 1715367049


async def list_all(world: World, _: Call) -> Reply:
    """GET /models."""
    own = [_tuned(world, name) for name in world.tuned_models]
    return JsonReply({"object": "list", "data": [*map(_model, catalog.LISTED), *own]})


async def retrieve(world: World, call: Call) -> Reply:
    """GET /models/{model}."""
    name = call.params["model"]
    if name in world.tuned_models:
        return JsonReply(_tuned(world, name))
    if name in world.deleted_models or not catalog.known(name):
        raise errors.ApiError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return JsonReply(_model(name))


async def delete(world: World, call: Call) -> Reply:
    """DELETE /models/{model}: fine-tuned ones only."""
    name = call.params["model"]
    if world.tuned_models.pop(name, None) is None:
        if catalog.known(name) and not name.startswith("ft:"):
            raise errors.ApiError(403, f"You are not allowed to delete the model '{name}'.", param="model")
        raise errors.ApiError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    world.deleted_models.add(name)
    return JsonReply({"id": name, "object": "model", "deleted": True})


def _model(name: str) -> Json:
    owner = "openai-internal" if name.startswith(("text-embedding", "tts", "whisper")) else "system"
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": owner}


def _tuned(world: World, name: str) -> Json:
    created, owner = world.tuned_models[name], world.options.organization
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


HANDLERS: Handlers = (("listModels", list_all), ("retrieveModel", retrieve), ("deleteModel", delete))
