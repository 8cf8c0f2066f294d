"""`pynchy config`: what is in force, where it comes from, and what is wrong, with its place."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pynchy.cli.app import pynchy

SECRET = "sk-ant-api03-planted-secret"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def run(home: Path, *arguments: str, **environ: str) -> Result:
    clean = {"PYNCHY_HOME": str(home), "ANTHROPIC_API_KEY": None, "CLAUDE_CODE_OAUTH_TOKEN": None}
    return CliRunner().invoke(pynchy, ["config", *arguments], env={**clean, **environ})


def test_each_value_has_its_origin(home: Path) -> None:
    (home / "config.toml").write_text('# mine\n[limits]\n\nidle = "10 min"\nturn = "2 h"\n')
    (home / ".env").write_text(f"# keys\nPYNCHY_LIMITS_TURN=3h\nANTHROPIC_API_KEY={SECRET}\n")
    (home / ".env").chmod(0o600)
    done = run(home, "show", "--json", PYNCHY_LIMITS_CONTAINERS="2")
    rows = {row["name"]: (row["value"], row["from"]) for row in json.loads(done.stdout)}
    assert done.exit_code == 0
    assert rows["limits.idle"] == (600.0, "config.toml:4, limits.idle")
    assert rows["limits.turn"] == (10_800.0, ".env:2, PYNCHY_LIMITS_TURN")
    assert rows["limits.containers"] == (2, "the environment, PYNCHY_LIMITS_CONTAINERS")
    assert rows["limits.drain"] == (15.0, "default")
    assert rows["credential"] == ("api_key", ".env:3, ANTHROPIC_API_KEY")


def test_what_is_shown_can_be_narrowed(home: Path) -> None:
    (home / "config.toml").write_text("[model]\noffline = true\n")
    changed = run(home, "show", "--changed").stdout.splitlines()
    assert [line.split()[:2] for line in changed if "machine" not in line] == [
        ["model.offline", "true"]
    ]
    assert run(home, "show", "limits.idle").stdout.split() == [
        "limits.idle",
        "30",
        "min",
        "default",
    ]
    assert run(home, "show", "lim").exit_code == 2


def test_no_secret_is_shown_wherever_it_was_put(home: Path) -> None:
    (home / ".env").write_text(f"ANTHROPIC_API_KEY={SECRET}\nPYNCHY_MODEL_NAME={SECRET}\n")
    (home / "config.toml").write_text(f'[limits]\nidle = "{SECRET}"\n')
    for arguments in (["show"], ["show", "--json"], ["check"], ["check", "--json"]):
        done = run(home, *arguments)
        assert "planted" not in done.output
        assert done.exit_code == 78


def test_what_is_wrong_is_said_with_its_line_and_what_to_do(home: Path) -> None:
    (home / "config.toml").write_text('[limits]\nidel = 3\nturn = "soon"\n\n[modle]\nname = "x"\n')
    (home / ".env").write_text("\nPYNCHY_LIMIT_IDLE=3\n")
    done = run(home, "check")
    assert done.exit_code == 78
    for told in (
        "config.toml:2, limits.idel: unknown key; did you mean limits.idle?",
        "config.toml:3, limits.turn: expected a time",
        "config.toml:5, modle: unknown section; did you mean model?",
        ".env:2, PYNCHY_LIMIT_IDLE: unknown setting; did you mean PYNCHY_LIMITS_IDLE?",
        "can be read by others: chmod 600",
        "docs/config.md says what each setting may be",
    ):
        assert told in done.stdout


def test_a_file_that_is_no_toml_is_said_with_its_line(home: Path) -> None:
    (home / "config.toml").write_text("[limits]\nidle = = 3\n")
    told = json.loads(run(home, "check", "--json").stdout)
    assert not told["ok"]
    assert "line 2" in told["problems"][0]


def test_an_empty_home_is_no_mistake(home: Path) -> None:
    done = run(home, "check")
    assert done.exit_code == 0
    assert "no credential" in done.stdout
    assert "the configuration is valid" in done.stdout
