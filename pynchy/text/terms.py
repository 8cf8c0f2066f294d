"""The words of a text as the search indexes hold them, and of a question as it looks for them.

A text is indexed by its words and by their stems, so that "allergies" finds "allergy". Scripts that put no space
between words are indexed by the character, and looked for in pairs: most of their words have two, so that an index
of three would not find them. Which language gives the stems is up to the group.

The rule that keeps it so: pure. And a question is words, never a query language: each is quoted before it reaches an
index, so that nothing a model writes can be an operator, a column or an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import islice, pairwise
from typing import Final

import attrs
import Stemmer
from stop_words import LANGUAGE_MAPPING, get_stop_words

#: By its code, what the stemmer calls a language: those of which it has the rules and we have the stop words.
LANGUAGES: Final = {
    code: name for code, name in sorted(LANGUAGE_MAPPING.items()) if name in Stemmer.algorithms()
}
#: Those that are found by their characters: they need no stems, and what is said in others is found as written.
BY_CHARACTERS: Final = ("ja", "km", "ko", "lo", "my", "th", "zh")
DEFAULT: Final = "en"  # until enough was said to tell

MOST_WORDS: Final = 32  # of a question; the rest is ignored
MOST_STEMMED: Final = 4_000  # different words of one text; the rest is found as written
LONGEST: Final = 64  # characters of a word that has a stem
PART: Final = 5  # characters of a word that may be part of a longer one
PREFIX: Final = 3  # characters with which the beginning of a word finds it
SURE: Final = 20.0  # stop words that tell a language

# Thai to Burmese, Khmer, kana, Han, Hangul: what stands between two spaces there is no word, or has its endings
# inside. The index depends on these ranges: another step of the schema must rebuild it where they change.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
)
# Vowel signs and points, of Hebrew to Sinhala: they belong to the word, though Python's \\w leaves them out.
_MARKS: Final = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
_CHARACTER: Final = re.compile(f"[{_UNSPACED}]")
_SPACED: Final = rf"(?:[^\W_{_UNSPACED}]|[{_MARKS}])+"
_WORD: Final = re.compile(rf"[{_UNSPACED}]+|{_SPACED}")
_STEMMED: Final = re.compile(_SPACED)


@attrs.frozen
class Term:
    """One thing that a question asks for: ``exact`` matches it in any of its forms, ``wider`` also words that only
    begin so. A ``common`` one, such as "the", says little."""

    exact: str
    wider: str
    common: bool


def indexed(text: str, language: str) -> str:
    """What an index holds of a text: its words, then those of their stems that are none of them."""
    stems: dict[str, None] = {}
    words = dict.fromkeys(match.group() for match in _STEMMED.finditer(text.lower()))
    for word in islice(words, MOST_STEMMED):
        stem = _stem(word, language)
        if stem not in words:
            stems[stem] = None
    return "\n".join([_CHARACTER.sub(r" \g<0> ", text), " ".join(stems)])


def read(question: str, languages: Iterable[str]) -> list[Term]:
    """What a question asks for, in the first `MOST_WORDS` words; its stems are those of all these languages."""
    spoken = tuple(dict.fromkeys(languages))
    words = dict.fromkeys(_WORD.findall(question.lower()))
    return list(islice(_terms(words, spoken), MOST_WORDS))


def parts(question: str, languages: Iterable[str]) -> list[str]:
    """What of a question may stand inside longer words, as allergy does in nut allergy where that is one word: its
    words and their stems, in small letters, without stop words and short ones."""
    spoken = tuple(dict.fromkeys(languages))
    words = list(islice(dict.fromkeys(_STEMMED.findall(question.lower())), MOST_WORDS))
    telling = [word for word in words if not any(word in _stop_words(each) for each in spoken)]
    forms = dict.fromkeys(
        form for word in telling for form in (word, *(_stem(word, each) for each in spoken))
    )
    return [form for form in forms if len(form) >= PART]


def _terms(words: Iterable[str], languages: tuple[str, ...]) -> Iterator[Term]:
    for word in words:
        if _CHARACTER.match(word):  # then all of it is such: see _WORD
            yield from _characters(word)
            continue
        forms = dict.fromkeys([word, *(_stem(word, each) for each in languages)])
        exact = " OR ".join(f'"{form}"' for form in forms)
        common = any(word in _stop_words(each) for each in languages)
        begins = [] if common else [form for form in forms if len(form) >= PREFIX]
        yield Term(exact, " OR ".join([exact, *(f'"{form}" *' for form in begins)]), common)


def _characters(run: str) -> Iterator[Term]:
    """The pairs of neighbours, and all of it: what has more of them in common is nearer."""
    parts = [run, *map("".join, pairwise(run))] if len(run) > 2 else [run]
    for part in dict.fromkeys(parts):
        phrase = '"' + " ".join(part) + '"'
        common = part in _stop_words("zh") or part in _stop_words("ja") or part in _stop_words("ko")
        yield Term(phrase, phrase, common)


def signs(text: str) -> dict[str, float]:
    """How much a text tells of each language: by the stop words in it. A word of many languages tells little."""
    counts: dict[str, float] = {}
    known = _speakers()
    for word in _STEMMED.findall(text.lower()):
        speakers = known.get(word, ())
        for language in speakers:
            counts[language] = counts.get(language, 0.0) + 1 / len(speakers)
    return counts


def together(*counts: Mapping[str, float]) -> dict[str, float]:
    """What several texts tell."""
    names = dict.fromkeys(name for each in counts for name in each)
    return {name: sum(each.get(name, 0.0) for each in counts) for name in names}


def language_of(counts: Mapping[str, float]) -> str | None:
    """The language that these signs are of, if they are enough and of one."""
    first, second = sorted([*counts.values(), 0.0, 0.0], reverse=True)[:2]
    if first < SURE or first <= 1.5 * second:
        return None
    return max(counts, key=lambda language: counts[language])


@cache
def _speakers() -> dict[str, tuple[str, ...]]:
    """The languages that have each stop word."""
    found: dict[str, list[str]] = {}
    for language in LANGUAGES:
        for word in _stop_words(language):
            found.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in found.items()}


@cache
def _stop_words(language: str) -> frozenset[str]:
    return frozenset(get_stop_words(language)) if language in LANGUAGE_MAPPING else frozenset()


@lru_cache(maxsize=20_000)
def _stem(word: str, language: str) -> str:
    stemmer = _stemmer(language)
    if stemmer is None or len(word) > LONGEST:
        return word
    return str(stemmer.stemWord(word))


@cache
def _stemmer(language: str) -> Stemmer.Stemmer | None:
    name = LANGUAGES.get(language)
    # The calls come from several threads, and a stemmer's own cache is not for that: ours is.
    return None if name is None else Stemmer.Stemmer(name, 0)
