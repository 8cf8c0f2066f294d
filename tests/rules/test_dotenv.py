"""The grammar of .env."""
# invariant 177

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.config.dotenv import BadEnvFile, parse_env

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=x", "x"),  # a single character
        ("A=", ""),
        ("A=''", ""),
        ("  export A = x y  # note", "x y"),
        ("A=x#y", "x#y"),
        ("A=#x", "#x"),
        ("A= # nothing", ""),
        ("A=a=b==", "a=b=="),
        ("A=$HOME/${X}`id`$(id)", "$HOME/${X}`id`$(id)"),
        (r"A=C:\dir\n", r"C:\dir\n"),
        ("A='it is $5 \\n # \"'", 'it is $5 \\n # "'),
        (r'A="two\nlines\t\"q\" \\ \$5"', 'two\nlines\t"q" \\ $5'),
        (r'A="\d+"', r"\d+"),
        ('A="over\nlines"', "over\nlines"),
        ("A='über, 日本'", "über, 日本"),
        ('A="x" # note', "x"),
        ("\ufeffA=x\r\n", "x"),
        ("A=y\nA=x", "x"),
        ("\n\n# A=z\n\t\nA=x\n\n", "x"),
    ],
)
def test_values(text: str, value: str) -> None:
    assert parse_env(text.encode())["A"] == value


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"A=1\nnonsense\n", "line 2: expected NAME=value"),
        (b"1A=x", "line 1: expected NAME=value"),
        (b"A-B=x", "line 1"),
        (b"\n\nA='secret", "line 3: the quote that opens the value of A is never closed"),
        (b'A="secret\\"', "never closed"),
        (b"A='x' secret", "line 1: something follows"),
        (b"A=1\nB=\xff", "line 2: not UTF-8"),
        (b"A='\0'", "NUL"),
    ],
)
def test_mistakes_name_the_line_and_never_the_value(data: bytes, says: str) -> None:
    with pytest.raises(BadEnvFile) as caught:
        parse_env(data)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_double_quotes_carry_any_text(values: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
            value = value.replace(char, escape)
        return f'"{value}"'

    text = "".join(f"{name}={quoted(value)}\n" for name, value in values.items())
    assert parse_env(text.encode()) == values


@given(st.binary())
def test_whatever_the_bytes_values_or_one_sentence(data: bytes) -> None:
    try:
        found = parse_env(data)
    except BadEnvFile:
        return
    assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize("piece", [b" ", b"'", b'"', b"\\", b"#", b"A=", b'A="', b"\n"])
def test_long_files_take_no_long_time(piece: bytes) -> None:
    for data in (piece * 100_000, b"A=" + piece * 100_000, b"A=x" + piece * 100_000 + b"y"):
        try:
            parse_env(data)
        except BadEnvFile as error:
            assert len(str(error)) < 200
