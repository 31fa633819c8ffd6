"""Whisper's languages, and every way in which a client may write one: codes, regions, names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serve_app.core.errors import UnsupportedLanguage


@dataclass(frozen=True, slots=True)
class Language:
    """One language. The first of `native_names` is how its speakers write it; `others` are lower case."""

    code: str
    name: str
    native_names: tuple[str, ...]
    others: tuple[str, ...]


# code | English name | native names | other names and codes
_TABLE = """
en|English|English|eng
zh|Chinese|中文; 汉语; 漢語; 普通话; 國語; 华语|zho; chi; cmn; mandarin
de|German|Deutsch|deu; ger
es|Spanish|Español; Castellano|spa; castilian
ru|Russian|Русский|rus
ko|Korean|한국어; 조선말|kor
fr|French|Français|fra; fre
ja|Japanese|日本語|jpn
pt|Portuguese|Português|por; brazilian portuguese
tr|Turkish|Türkçe|tur
pl|Polish|Polski|pol
ca|Catalan|Català|cat; valencian
nl|Dutch|Nederlands; Vlaams|nld; dut; flemish
ar|Arabic|العربية|ara; arb
sv|Swedish|Svenska|swe
it|Italian|Italiano|ita
id|Indonesian|Bahasa Indonesia; Indonesia|ind; in
hi|Hindi|हिन्दी; हिंदी|hin
fi|Finnish|Suomi|fin
vi|Vietnamese|Tiếng Việt|vie
he|Hebrew|עברית|heb; iw
uk|Ukrainian|Українська|ukr
el|Greek|Ελληνικά|ell; gre
ms|Malay|Bahasa Melayu; Melayu|msa; may; zsm
cs|Czech|Čeština|ces; cze
ro|Romanian|Română|ron; rum; mo; moldavian; moldovan
da|Danish|Dansk|dan
hu|Hungarian|Magyar|hun
ta|Tamil|தமிழ்|tam
no|Norwegian|Norsk; Norsk bokmål|nor; nb; nob; bokmal; bokmål
th|Thai|ไทย; ภาษาไทย|tha
ur|Urdu|اردو|urd
hr|Croatian|Hrvatski|hrv
bg|Bulgarian|Български|bul
lt|Lithuanian|Lietuvių|lit
la|Latin|Latina|lat
mi|Maori|Te reo Māori|mri; mao; māori
ml|Malayalam|മലയാളം|mal
cy|Welsh|Cymraeg|cym; wel
sk|Slovak|Slovenčina|slk; slo
te|Telugu|తెలుగు|tel
fa|Persian|فارسی|fas; per; farsi
lv|Latvian|Latviešu|lav; lvs
bn|Bengali|বাংলা|ben; bangla
sr|Serbian|Српски; Srpski|srp
az|Azerbaijani|Azərbaycanca; Azərbaycan dili|aze; azj
sl|Slovenian|Slovenščina|slv; slovene
kn|Kannada|ಕನ್ನಡ|kan
et|Estonian|Eesti|est; ekk
mk|Macedonian|Македонски|mkd; mac
br|Breton|Brezhoneg|bre
eu|Basque|Euskara|eus; baq
is|Icelandic|Íslenska|isl; ice
hy|Armenian|Հայերեն|hye; arm
ne|Nepali|नेपाली|nep; npi
mn|Mongolian|Монгол|mon; khk
bs|Bosnian|Bosanski|bos
kk|Kazakh|Қазақша; Қазақ тілі|kaz
sq|Albanian|Shqip|sqi; alb; als
sw|Swahili|Kiswahili|swa; swh
gl|Galician|Galego|glg
mr|Marathi|मराठी|mar
pa|Punjabi|ਪੰਜਾਬੀ|pan; panjabi
si|Sinhala|සිංහල|sin; sinhalese
km|Khmer|ខ្មែរ; ភាសាខ្មែរ|khm
sn|Shona|chiShona|sna
yo|Yoruba|Yorùbá|yor
so|Somali|Soomaali; Af Soomaali|som
af|Afrikaans|Afrikaans|afr
oc|Occitan|Occitan; Lenga d'òc|oci
ka|Georgian|ქართული|kat; geo
be|Belarusian|Беларуская|bel
tg|Tajik|Тоҷикӣ|tgk
sd|Sindhi|سنڌي|snd
gu|Gujarati|ગુજરાતી|guj
am|Amharic|አማርኛ|amh
yi|Yiddish|ייִדיש; יידיש|yid; ji
lo|Lao|ລາວ; ພາສາລາວ|lao
uz|Uzbek|Oʻzbekcha; Oʻzbek|uzb; uzn
fo|Faroese|Føroyskt|fao
ht|Haitian Creole|Kreyòl ayisyen; Kreyòl|hat; haitian
ps|Pashto|پښتو|pus; pushto
tk|Turkmen|Türkmençe; Türkmen|tuk
nn|Nynorsk|Norsk nynorsk|nno; norwegian nynorsk
mt|Maltese|Malti|mlt
sa|Sanskrit|संस्कृतम्|san
lb|Luxembourgish|Lëtzebuergesch|ltz; letzeburgesch
my|Myanmar|မြန်မာဘာသာ; မြန်မာ|mya; bur; burmese
bo|Tibetan|བོད་སྐད་|bod; tib
tl|Tagalog|Wikang Tagalog|tgl; fil; filipino
mg|Malagasy|Malagasy|mlg; plt
as|Assamese|অসমীয়া|asm
tt|Tatar|Татарча; Татар теле|tat
haw|Hawaiian|ʻŌlelo Hawaiʻi|
ln|Lingala|Lingála|lin
ha|Hausa|Hausa|hau
ba|Bashkir|Башҡортса; Башҡорт теле|bak
jw|Javanese|Basa Jawa|jv; jav
su|Sundanese|Basa Sunda|sun
yue|Cantonese|粵語; 粤语; 廣東話; 广东话|zh-yue; cantonese chinese
"""


def _row(line: str) -> Language:
    code, name, native_names, others = line.split("|")
    return Language(code, name, tuple(native_names.split("; ")), tuple(filter(None, others.split("; "))))


ROWS: tuple[Language, ...] = tuple(_row(line) for line in _TABLE.strip().splitlines())
"""In the order of Whisper's language tokens."""


LANGUAGES: dict[str, str] = {row.code: row.name for row in ROWS}
"""Whisper's code to its English name, in the order of Whisper's tokens."""

MAX_NAME_CHARS = 80
_DETECT = frozenset({"", "auto", "detect", "multi", "und"})
_TAG = re.compile(r"([a-z]{2,3})(-[a-z0-9]{1,8}){1,7}")
"""BCP 47: a primary language, then script, region and variants (pt-BR, zh-Hant-TW)."""

_QUALIFIED = re.compile(r"([^()]+?) ?\([^()]*\)")
_APOSTROPHES = str.maketrans(dict.fromkeys("ʻʼ‘’`´", "'"))


def normalise_language(name: str | None) -> str | None:
    """Whisper's code for "pt", "pt-BR", "PT", "por", "Portuguese" or "Português"; None for "auto" and
    nothing: detect.

    Raises `UnsupportedLanguage`, which names what was nearest.
    """
    written = name or ""
    if len(written) <= MAX_NAME_CHARS:
        spelling = _canonical(written).replace("_", "-")
        if spelling in _DETECT:
            return None
        code = _find(spelling)
        if code is not None:
            return code
    raise UnsupportedLanguage(_refusal(written))


def normalise_languages(names: str | Iterable[str]) -> tuple[str, ...]:
    """The codes of several languages, "en,de" or a list; each once, none where one of them is "auto".

    Raises `UnsupportedLanguage`, which names what was nearest.
    """
    listed = names.split(",") if isinstance(names, str) else list(names)
    codes = [normalise_language(name) for name in listed if name.strip()]
    return () if None in codes else tuple(dict.fromkeys(code for code in codes if code is not None))


def codes_of(num_languages: int) -> tuple[str, ...]:
    """The codes of a model that has this many languages: 1 (English only), 99, or 100 with Cantonese."""
    return tuple(LANGUAGES)[:num_languages]


def _find(spelling: str) -> str | None:
    spaced = " ".join(spelling.replace("-", " ").split())
    code = _CODES.get(spelling) or _CODES.get(spaced)
    if code is None and (tag := _TAG.fullmatch(spelling)) is not None:
        return _CODES.get("-".join(spelling.split("-")[:2])) or _CODES.get(tag[1])
    if code is None and (qualified := _QUALIFIED.fullmatch(spelling)) is not None:
        return _CODES.get(qualified[1])
    return code


def _canonical(text: str) -> str:
    """One form of what reads the same: case, composed letters, apostrophes, blanks."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.translate(_APOSTROPHES).split())


def _plain(text: str) -> str:
    """Without accents, where that leaves plain letters: "portugues", "francais"; else as it was."""
    letters = unicodedata.normalize("NFKD", text)
    stripped = "".join(letter for letter in letters if not unicodedata.combining(letter)).replace("'", "")
    return stripped if stripped.isascii() else text


def spellings_of(row: Language) -> Iterator[str]:
    """Every spelling that means this language, canonical; doubles among them."""
    for spelling in (row.code, row.name, *row.native_names, *row.others):
        yield _canonical(spelling)
        yield _plain(_canonical(spelling))


_CODES: dict[str, str] = {spelling: row.code for row in ROWS for spelling in spellings_of(row)}


def _refusal(written: str) -> str:
    nearest = difflib.get_close_matches(_canonical(written[:MAX_NAME_CHARS])[:40], _CODES, n=3, cutoff=0.75)
    codes = dict.fromkeys(_CODES[spelling] for spelling in nearest)
    guesses = " or ".join(f"{LANGUAGES[code]} ({code})" for code in list(codes)[:2])
    return (
        f"unknown language {repr(written[:40])[:60]}: "
        + (f"did you mean {guesses}? " if guesses else "")
        + "Expected 'auto', a code such as 'pt' or 'pt-BR', or a name such as 'Portuguese'"
    )
