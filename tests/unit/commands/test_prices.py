"""`gateway prices show`: a call's cost, line by line, and why."""

from pathlib import Path

import pytest

from gateway.__main__ import main


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["prices", "show", *arguments]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "gpt-6-astra",
        "--input",
        "300000",
        "--cached",
        "1000",
        "--output",
        "500",
        "--tier",
        "fast",
        "--date",
        "2026-11-22",
    ]
    lines = shown(capsys, *arguments)
    assert lines[:4] == [
        "gpt-6-astra, input_tokens 299,000 at $40 per 1,000,000 $11.960000000",
        "gpt-6-astra, cached_input_tokens 1,000 at $4 per 1,000,000 $0.004000000",
        "gpt-6-astra, output_tokens 500 at $150 per 1,000,000 $0.075000000",
        "total $12.039000000",
    ]
    assert "tier: priority" in lines
    assert "context: above 272,000 tokens of input" in lines
    assert "since: 2026-10-12" in lines
    assert any(line.startswith("source: genai-prices 0.2.3, made on 20") for line in lines)


def test_the_date_decides(capsys: pytest.CaptureFixture[str]) -> None:
    before = shown(capsys, "gpt-5.6-luna", "--input", "1000", "--date", "2026-07-29")
    after = shown(capsys, "gpt-5.6-luna", "--input", "1000", "--date", "2026-07-30")
    assert (before[1], after[1]) == ("total $0.001000000", "total $0.000200000")


def test_rates_without_quantities(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "gpt-4o-2024-11-20", "--batch", "--date", "2026-11-22")
    assert "input_tokens $1.25 per 1,000,000" in lines
    assert "model: gpt-4o-2024-11-20, priced as gpt-4o" in lines
    assert "images 1024x1024 hd $0.08 each" in shown(capsys, "dall-e-3")
    assert "audio_seconds $0.006 a minute" in shown(capsys, "whisper-1")


def test_an_unknown_model_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "llama-3", "--input", "1000")
    assert "note: no prices for llama-3: the ceiling" in lines
    assert lines[-1].startswith("unknown: ")
    assert "no prices of its own" in shown(capsys, "llama-3")


def test_the_settings_go_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    text = "upstreams: {a: {base_url: 'http://a/v1'}}\nprices: {unknown_model: refuse, models: {gpt-5: {input_tokens: 1}}}\n"
    path.write_text(text)
    lines = shown(capsys, "gpt-5", "--input", "1000", "--output", "1", "--config", str(path))
    assert lines[0] == "gpt-5, input_tokens 1,000 at $1 per 1,000,000 $0.001000000"
    assert "source: settings (input_tokens)" in lines
    assert shown(capsys, "llama", "--config", str(path))[-1] == "Calls are refused: prices.unknown_model is refuse."
    path.write_text("upstreams: {}\n")
    assert main(["prices", "show", "gpt-5", "--config", str(path)]) == 2


@pytest.mark.parametrize("wrong", [["--input", "-1"], ["--input", "many"], ["--date", "today"], ["--tokens", "1"]])
def test_mistakes_in_the_call(capsys: pytest.CaptureFixture[str], wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prices", "show", "gpt-5", *wrong])
    assert caught.value.code == 2
