"""Lock files: --write makes them (from the registry); without it, fails when they do not fit pyproject.toml."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"requirements.lock": ["build"], "requirements-dev.lock": ["build", "dev"]}


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[._-]+", "-", match[0]).lower()


def write() -> None:
    constraints: list[str] = []
    for lock, groups in LOCKS.items():
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--universal", "--generate-hashes"]
        command += ["--no-header", "--quiet", "--python-version", "3.11", "-o", lock, *constraints]
        for group in groups:
            command += ["--group", group]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        constraints = ["-c", lock]


def missing() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    complaints = []
    for lock, groups in LOCKS.items():
        text = (ROOT / lock).read_text()
        locked = {name_of(line) for line in text.splitlines() if line and not line.startswith((" ", "#"))}
        wanted = [*project["project"]["dependencies"], *(r for g in groups for r in project["dependency-groups"][g])]
        complaints += [f"{lock}: {name_of(r)} is missing" for r in wanted if name_of(r) not in locked]
        if text.count("--hash=") < len(locked):
            complaints.append(f"{lock}: a package has no hash")
    return complaints


def main() -> int:
    if "--write" in sys.argv:
        write()
    complaints = missing()
    print("\n".join([*complaints, "run .ci/locks.py --write"]) if complaints else "locks: ok")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
