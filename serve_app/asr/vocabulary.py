"""A Whisper model's tokens: which ids are special, how text becomes ids and back.

Ids come from the model's own tokenizer.json: they differ between models, and some names between versions
(`<|nospeech|>` was `<|nocaptions|>`, `<|he|>` was `<|iw|>`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import Task
from serve_app.core.keyterms import without_boosts

MAX_PROMPT_TOKENS = 223
MAX_HOTWORD_TOKENS = 111
"""Half of it, as faster-whisper shares it out."""
_MAX_PROMPT_CHARS = 4_000
_RENAMED_LANGUAGES = {"iw": "he", "jv": "jw"}


def language_code(token: str) -> str:
    """The code in a language token: "<|en|>" is "en", and "<|iw|>" is "he"."""
    code = token.removeprefix("<|").removesuffix("|>")
    return _RENAMED_LANGUAGES.get(code, code)


class Vocabulary:
    """Token ids of one model. Raises `ModelUnavailable` where tokenizer.json is no Whisper tokenizer."""

    def __init__(self, path: Path, *, multilingual: bool) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ModelUnavailable(f"{path} is no tokenizer: {error}") from error
        self._path = path
        self.multilingual = multilingual
        self.start = self._id("<|startoftranscript|>")
        self.end = self._id("<|endoftext|>")
        self.previous = self._id("<|startofprev|>")
        self.no_timestamps = self._id("<|notimestamps|>")
        self.no_speech = self._id("<|nospeech|>", "<|nocaptions|>")
        self.tasks = {Task.TRANSCRIBE: self._id("<|transcribe|>"), Task.TRANSLATE: self._id("<|translate|>")}
        self.languages: Mapping[str, int] = self._language_ids() if multilingual else {}

    def _id(self, *names: str) -> int:
        for name in names:
            token_id = self._tokenizer.token_to_id(name)
            if token_id is not None:
                return int(token_id)
        raise ModelUnavailable(f"{self._path} has no token {names[0]}: it is not a Whisper tokenizer")

    def _language_ids(self) -> dict[str, int]:
        first, behind = self.start + 1, min(self.tasks.values())
        names = [(self._tokenizer.id_to_token(i) or "", i) for i in range(first, behind)]
        return {language_code(name): i for name, i in names if name.startswith("<|") and name.endswith("|>")}

    def timestamp_ids(self, vocabulary_size: int) -> list[int]:
        """Every time token's id; tokenizer.json of the English models leaves them out."""
        return list(range(self.no_timestamps + 1, vocabulary_size))

    def start_sequence(self, language: str, task: Task) -> list[int]:
        """What the decoder is started with; `language` must be one of `languages` where there are any."""
        if not self.multilingual:
            return [self.start]
        return [self.start, self.languages[language], self.tasks[task]]

    def encode(self, text: str) -> list[int]:
        """Ids of a text as the model would write it, a space before it; special tokens in it are left out."""
        text = text.strip()
        return self.encode_exactly(f" {text}") if text else []

    def encode_exactly(self, text: str) -> list[int]:
        """Ids of a text with the spaces that it has."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [i for i in ids if i < self.end]

    @cache  # noqa: B019  a model's vocabulary lives as long as the process
    def text_of(self, token: int) -> str:
        """One token's text with its spaces; "" of a special one, a replacement character for a part of
        one."""
        return self.decode([token])

    def encode_prompt(self, prompt: str, hotwords: str = "") -> tuple[list[int], list[int]]:
        """Ids of hotwords (the first `MAX_HOTWORD_TOKENS`) and of previous text (the newest that still fit):
        together at most `MAX_PROMPT_TOKENS`."""
        hot = self.encode(without_boosts(hotwords[:_MAX_PROMPT_CHARS]))[:MAX_HOTWORD_TOKENS]
        return hot, self.encode(prompt[-_MAX_PROMPT_CHARS:])[-(MAX_PROMPT_TOKENS - len(hot)) :]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        return str(self._tokenizer.decode([i for i in ids if i < self.end]))
