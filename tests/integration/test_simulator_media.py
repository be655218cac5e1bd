"""The simulator's images and audio, through the official client in its strict mode."""

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.simulator import media, tokens
from tests.unit.simulator.kit import Simulation, simulation

WAV = media.wav(2.0)


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with simulation() as running:
        yield running


async def test_gpt_image_answers_in_base64_and_tokens(sim: Simulation) -> None:
    client = sim.client()
    answer = await client.images.generate(
        model="gpt-image-1", prompt="a red kite", n=2, size="1024x1536", quality="low"
    )
    assert answer.usage is not None
    assert answer.usage.input_tokens == tokens.count("a red kite")
    assert answer.usage.output_tokens == 2 * 408
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    picture = base64.b64decode((answer.data or [])[1].b64_json or "")
    assert media.picture_size(picture) == (1024, 1536)
    assert (answer.size, answer.quality, answer.output_format) == ("1024x1536", "low", "png")
    record = await sim.last()
    assert (record.usage.images, record.usage.output_image_tokens) == (2, 816)


async def test_dall_e_answers_with_urls_and_no_usage(sim: Simulation) -> None:
    client = sim.client()
    answer = await client.images.generate(model="dall-e-3", prompt="a red kite", size="1792x1024", quality="hd")
    assert answer.usage is None
    url = (answer.data or [])[0].url or ""
    async with sim.session.get(url) as response:
        assert response.content_type == "image/png"
        assert media.picture_size(await response.read()) == (1792, 1024)
    record = await sim.last()
    assert (record.usage.images, record.usage.total_tokens, record.usage_sent) == (1, 0, False)
    inline = await client.images.generate(model="dall-e-2", prompt="x", response_format="b64_json", size="256x256")
    assert (inline.data or [])[0].b64_json


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_edits_count_the_pictures_that_come_in(sim: Simulation) -> None:
    client = sim.client()
    small, large = media.png(256, 256, 9), media.png(1024, 1024, 9)
    answer = await client.images.edit(
        model="gpt-image-1", image=[("a.png", small), ("b.png", large)], prompt="make it blue", size="1024x1024"
    )
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == (85 + 170) + (85 + 4 * 170)
    assert answer.usage.input_tokens == answer.usage.input_tokens_details.image_tokens + tokens.count("make it blue")
    varied = await client.images.create_variation(image=("a.png", small), n=3)
    assert len(varied.data or []) == 3
    assert (await sim.last()).usage.images == 3
    with pytest.raises(openai.BadRequestError):
        await client.images.edit(model="gpt-image-1", image=[], prompt="x")


async def test_images_stream(sim: Simulation) -> None:
    client = sim.client()
    stream = await client.images.generate(model="gpt-image-1", prompt="a kite", stream=True, partial_images=2)
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert last.usage.output_tokens == 1056 + 200
    edited = await client.images.edit(
        model="gpt-image-1", image=("a.png", media.png(64, 64, 1)), prompt="x", stream=True, partial_images=1
    )
    assert [event.type async for event in edited] == ["image_edit.partial_image", "image_edit.completed"]
    record = await sim.last()
    assert (record.output_tokens_sent, record.usage_sent) == (record.usage.output_tokens, True)


@pytest.mark.parametrize(
    ("form", "kind"),
    [("mp3", "audio/mpeg"), ("opus", "audio/opus"), ("wav", "audio/wav"), ("pcm", "audio/pcm"), ("flac", "audio/flac")],
)
async def test_speech_is_sound(sim: Simulation, form: Any, kind: str) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    answer = await sim.client().audio.speech.create(model="tts-1", voice="alloy", input=text, response_format=form)
    assert answer.response.headers["content-type"] == kind
    assert answer.content
    record = await sim.last()
    assert (record.usage.characters, record.usage.total_tokens) == (len(text), 0)
    assert record.usage.seconds == pytest.approx(tokens.count(text) * 0.3)
    if form == "wav":
        assert media.sound_seconds(answer.content[:64], len(answer.content)) == pytest.approx(
            record.usage.seconds, 0.01
        )


async def test_speech_in_events_reports_tokens(sim: Simulation) -> None:
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello there, my friend.", "stream_format": "sse"}
    head, lines = await sim.lines("/audio/speech", body)
    assert head["content-type"].startswith("text/event-stream")
    assert '"type":"speech.audio.delta"' in lines[0]
    assert '"speech.audio.done","usage":{"input_tokens":' in lines[-1]
    record = await sim.last()
    assert record.usage.output_tokens == record.output_tokens_sent == 20 * 0.3 * record.usage.input_tokens
    status, _, _ = await sim.post("/audio/speech", body | {"model": "tts-1"})
    assert status == 400


async def test_transcriptions_by_tokens_and_by_seconds(sim: Simulation) -> None:
    client = sim.client()
    by_tokens = await client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.wav", WAV), prompt="two words"
    )
    usage: Any = by_tokens.usage
    assert usage.input_token_details.audio_tokens == 20
    assert usage.input_tokens == 20 + tokens.count("two words")
    assert usage.output_tokens == tokens.count(by_tokens.text) == 6
    by_seconds = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", WAV))
    duration: Any = by_seconds.usage
    assert (duration.type, duration.seconds) == ("duration", 2)
    assert (await sim.last()).usage.seconds == 2.0


async def test_transcription_formats(sim: Simulation) -> None:
    client = sim.client()
    verbose = await client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", WAV), response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert verbose.duration == 2.0
    assert verbose.words
    text: Any = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", WAV), response_format="text")
    assert text.strip() == verbose.text
    srt: Any = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", WAV), response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:0")
    vtt: Any = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", WAV), response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> ")
    diarized: Any = await client.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize", file=("a.wav", WAV), response_format="diarized_json"
    )
    assert diarized.segments[0].speaker == "A"
    with pytest.raises(openai.BadRequestError):
        await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", WAV), response_format="srt")


async def test_transcriptions_stream(sim: Simulation) -> None:
    client = sim.client()
    whole = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", WAV))
    stream = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", WAV), stream=True)
    events = [event async for event in stream]
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == whole.text
    last = events[-1]
    assert last.type == "transcript.text.done"
    assert last.usage is not None
    assert last.usage.output_tokens == (await sim.last()).output_tokens_sent == 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_translations(sim: Simulation) -> None:
    client = sim.client()
    plain = await client.audio.translations.create(model="whisper-1", file=("a.wav", WAV))
    assert plain.text
    verbose = await client.audio.translations.create(
        model="whisper-1", file=("a.wav", WAV), response_format="verbose_json"
    )
    assert (verbose.duration, verbose.language) == (2.0, "english")
    assert (await sim.last()).usage.seconds == 2.0
    with pytest.raises(openai.BadRequestError):
        await client.audio.translations.create(model="whisper-1", file=("a.wav", b""))


def test_lengths_and_sizes() -> None:
    assert media.sound_seconds(WAV[:64], len(WAV)) == 2.0
    assert media.sound_seconds(b"ID3", 32_000) == 2.0
    assert media.picture_size(b"GIF89a") == (1024, 1024)
    assert struct.unpack(">II", media.png(30, 40, 0)[16:24]) == (30, 40)
    assert media.picture_tokens((1025, 512)) == 85 + 3 * 170
    assert media.picture_tokens((4000, 4000), "low") == 85
    assert media.head("data:image/png;base64," + base64.b64encode(media.png(3, 4, 5)).decode())[:4] == b"\x89PNG"
    assert media.head("https://example.com/x") == b""
