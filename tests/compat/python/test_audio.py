"""Audio: speech as bytes and as events, transcriptions in all formats, translations."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from gateway.simulator import media

WAV = ("größe.wav", media.wav(2.0), "audio/wav")
TEXT = "The quick brown fox jumps over the lazy dog."


async def test_speech_is_bytes(client: AsyncOpenAI, tmp_path: Path) -> None:
    whole = await client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="wav")
    assert whole.response.headers["content-type"] == "audio/wav"
    assert whole.content.startswith(b"RIFF")
    target = tmp_path / "speech.wav"
    async with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=TEXT, response_format="wav"
    ) as streamed:
        await streamed.stream_to_file(target)
    assert target.read_bytes() == whole.content


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "pcm"])
async def test_speech_in_each_format(client: AsyncOpenAI, form: Any) -> None:
    answer = await client.audio.speech.create(model="tts-1-hd", voice="nova", input="Hi", response_format=form)
    assert answer.content
    assert answer.response.headers["content-type"].startswith("audio/")


async def test_speech_in_events(client: AsyncOpenAI) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input=TEXT, stream_format="sse"
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in answer.iter_lines() if line.startswith("data: ")]
    assert '"type":"speech.audio.delta"' in lines[0]
    assert '"type":"speech.audio.done"' in lines[-1]


async def test_transcriptions_in_each_format(client: AsyncOpenAI) -> None:
    create = client.audio.transcriptions.create
    plain = await create(model="gpt-4o-transcribe", file=WAV, prompt="two words", language="en")
    assert plain.text
    verbose = await create(
        model="whisper-1", file=WAV, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert verbose.duration == 2.0
    assert verbose.words
    text: Any = await create(model="whisper-1", file=WAV, response_format="text")
    assert text.strip() == verbose.text
    subtitles: Any = await create(model="whisper-1", file=WAV, response_format="vtt")
    assert subtitles.startswith("WEBVTT\n\n")
    diarized = await create(model="gpt-4o-transcribe-diarize", file=WAV, response_format="diarized_json")
    assert diarized.segments[0].speaker == "A"
    with pytest.raises(openai.BadRequestError):
        await create(model="gpt-4o-transcribe", file=WAV, response_format="srt")


async def test_transcriptions_stream(client: AsyncOpenAI) -> None:
    whole = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV)
    stream = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV, stream=True)
    events: list[Any] = [event async for event in stream]
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == whole.text
    assert events[-1].type == "transcript.text.done"
    assert events[-1].usage is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_translations(client: AsyncOpenAI) -> None:
    plain = await client.audio.translations.create(model="whisper-1", file=WAV)
    assert plain.text
    verbose = await client.audio.translations.create(model="whisper-1", file=WAV, response_format="verbose_json")
    assert verbose.duration == 2.0
