"""Runs the proofs at full size, part by part, and writes their numbers to docs/proofs.md."""

import json
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".proof"
PAGE = ROOT / "docs" / "proofs.md"
LONGEST_S = 30 * 60
HEAD = """# Proofs

What the gateway promises, measured at full size by `.ci/proof`; the same tests run small in `.ci/run`. One table a
part: the newest run that passed.
"""


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def parts() -> dict[str, Path]:
    """Test files that have proofs, by name."""
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "mark.proof" in path.read_text())
    return {path.stem.removeprefix("test_"): path for path in files}


def run(name: str, path: Path, commit: str) -> bool:
    """Runs one part; keeps its result in STATE and its output beside it."""
    STATE.mkdir(exist_ok=True)
    measured, log = STATE / f"{name}.measured", STATE / f"{name}.log"
    command = [sys.executable, "-m", "pytest", "-m", "proof", "--full", f"--timeout={LONGEST_S}", "--measured"]
    command += [str(measured), str(path.relative_to(ROOT))]
    print(f"{datetime.now(UTC):%H:%M:%S} {name}: started, output in {log.relative_to(ROOT)}", flush=True)
    began = time.monotonic()
    with log.open("w") as output:
        status = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    seconds = time.monotonic() - began
    rows = [json.loads(line) for line in measured.read_text().splitlines()] if measured.exists() else []
    shown = " ".join(["pytest -m proof --full", str(path.relative_to(ROOT))])
    result = {
        "commit": commit, "date": f"{datetime.now(UTC):%Y-%m-%d}", "command": shown, "seconds": round(seconds),
        "passed": status == 0, "rows": rows, "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }  # fmt: skip
    (STATE / f"{name}.json").write_text(json.dumps(result, indent=1))
    print(
        f"{datetime.now(UTC):%H:%M:%S} {name}: {'passed' if status == 0 else 'FAILED'} in {seconds:.0f} s", flush=True
    )
    for row in rows:
        print(f"    {row['what']}: {row['value']:g} {row['unit']}  {row['limit']}", flush=True)
    return status == 0


def done(name: str, commit: str) -> bool:
    path = STATE / f"{name}.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    return bool(result.get("passed")) and result.get("commit") == commit


def section(name: str, result: dict[str, object]) -> str:
    rows, machine = result["rows"], result["machine"]
    assert isinstance(rows, list)
    lines = [
        f"## {name}\n",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}, {result['seconds']} s, {machine}.\n",
        "| what | measured | must be |",
        "| --- | --- | --- |",
        *(f"| {row['what']} | {row['value']:g} {row['unit']} | {row['limit']} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def write_page(names: list[str]) -> None:
    """Puts the results of these parts that passed into the page; other parts' tables stay as they are."""
    old = PAGE.read_text() if PAGE.exists() else HEAD
    sections = {m[1]: m[0].strip() + "\n" for m in re.finditer(r"(?ms)^## (\S+)$.*?(?=^## |\Z)", old)}
    for name in names:
        result = json.loads((STATE / f"{name}.json").read_text())
        if result["passed"]:
            sections[name] = section(name, result)
    PAGE.write_text(HEAD + "".join(f"\n{sections[name]}" for name in sorted(sections)))


def main(arguments: list[str]) -> int:
    known = parts()
    if arguments == ["--list"]:
        print("\n".join(known))
        return 0
    unknown = [name for name in arguments if name not in known]
    if unknown:
        print(f"no such part: {', '.join(unknown)}; known are {', '.join(known)}")
        return 2
    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    wanted = arguments or [name for name in known if not done(name, commit)]
    passed = [run(name, known[name], commit) for name in wanted]
    write_page(wanted)
    print(f"{sum(passed)} of {len(passed)} parts passed; numbers in {PAGE.relative_to(ROOT)}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
