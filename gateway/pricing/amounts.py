"""From the quantities of a line to the amounts that have prices: every token in one part, every thing counted once."""

from gateway.pricing.sheet import Card
from gateway.pricing.units import UnitName
from gateway.values import Quantities, UsageLine

Amounts = list[tuple[UnitName, int]]


def amounts(line: UsageLine, card: Card) -> Amounts:
    """What of a line costs money.

    Tokens, time, characters and images are measures of the same thing: the first one in this order that the line has
    and the model is priced by is what counts; if it is priced by none of them, the first that the line has.
    What is not such a measure counts beside it. Sessions are containers, unless time is what counts: then they are
    live sessions, which cost their time. bytes are those of a day.
    """
    quantities = line.quantities
    found = token_parts(quantities)
    if not found or "tokens" not in card.measures:
        found = _other_measure(line, card) or found
    if quantities.sessions and not (found and found[0][0] in ("audio_ms", "video_ms")):
        found.append(("sessions", quantities.sessions))
    if quantities.web_searches:
        found.append(("web_searches", quantities.web_searches))
    if quantities.file_searches:
        found.append(("file_searches", quantities.file_searches))
    if quantities.trained_tokens:
        found.append(("trained_tokens", quantities.trained_tokens))
    if quantities.bytes:
        found.append(("bytes", quantities.bytes))
    return found


def token_parts(quantities: Quantities) -> Amounts:
    """Tokens by what they cost: input that was neither cached nor written, cached, written; each apart for audio and
    image. What contradicts itself upstream (more cached than input) never makes a negative part.
    """
    input_tokens, output_tokens = quantities.input_tokens, quantities.output_tokens
    cached, long = quantities.cached_tokens, quantities.cache_write_12h_tokens
    written = max(quantities.cache_write_tokens, long) if long else quantities.cache_write_tokens
    parts: Amounts = []
    if quantities.input_audio_tokens or quantities.input_image_tokens:
        audio, image = quantities.input_audio_tokens, quantities.input_image_tokens
        cached_audio, cached_image = quantities.cached_audio_tokens, quantities.cached_image_tokens
        input_tokens -= max(audio, cached_audio) + max(image, cached_image)
        cached -= cached_audio + cached_image
        parts += [("input_audio_tokens", audio - cached_audio), ("input_image_tokens", image - cached_image)]
        parts += [("cached_audio_tokens", cached_audio), ("cached_image_tokens", cached_image)]
    if cached:
        input_tokens -= max(0, cached)
        parts.append(("cached_tokens", cached))
    if written:
        input_tokens -= written
        parts += [("cache_write_tokens", written - long), ("cache_write_12h_tokens", long)]
    if quantities.output_audio_tokens or quantities.output_image_tokens:
        audio, image = quantities.output_audio_tokens, quantities.output_image_tokens
        output_tokens -= audio + image
        parts += [("output_audio_tokens", audio), ("output_image_tokens", image)]
    if not parts and input_tokens > 0 and output_tokens > 0:
        return [("input_tokens", input_tokens), ("output_tokens", output_tokens)]
    parts = [("input_tokens", input_tokens), *parts, ("output_tokens", output_tokens)]
    return [part for part in parts if part[1] > 0]


def _other_measure(line: UsageLine, card: Card) -> Amounts:
    quantities = line.quantities
    found: Amounts = []
    priced: Amounts = []
    if quantities.duration_ms:
        # Only videos have no category of OpenAI's usage API.
        guess: UnitName = "audio_ms" if line.category else "video_ms"
        found.append((card.time_unit or guess, quantities.duration_ms))
        priced += found if "time" in card.measures else ()
    if quantities.characters:
        found.append(("characters", quantities.characters))
        priced += found[-1:] if "characters" in card.measures else ()
    if quantities.images:
        found.append(("images", quantities.images))
        priced += found[-1:] if "images" in card.measures else ()
    if priced:
        return priced[:1]
    return [] if token_parts(quantities) else found[:1]
