"""Whisper's languages: its codes, their English names, and every other way in which a client may write one.

Codes and names are Whisper's own (whisper/tokenizer.py, `LANGUAGES`); the three-letter codes are ISO 639-2
and 639-3. `yue` came with the large-v3 models.
"""

from __future__ import annotations

from serve_app.errors import UnsupportedLanguage

# code | English name | other names and codes, lower case
_TABLE = """
en|English|eng
zh|Chinese|zho chi cmn mandarin
de|German|deu ger
es|Spanish|spa castilian
ru|Russian|rus
ko|Korean|kor
fr|French|fra fre
ja|Japanese|jpn
pt|Portuguese|por
tr|Turkish|tur
pl|Polish|pol
ca|Catalan|cat valencian
nl|Dutch|nld dut flemish
ar|Arabic|ara arb
sv|Swedish|swe
it|Italian|ita
id|Indonesian|ind in
hi|Hindi|hin
fi|Finnish|fin
vi|Vietnamese|vie
he|Hebrew|heb iw
uk|Ukrainian|ukr
el|Greek|ell gre
ms|Malay|msa may zsm
cs|Czech|ces cze
ro|Romanian|ron rum mo moldavian moldovan
da|Danish|dan
hu|Hungarian|hun
ta|Tamil|tam
no|Norwegian|nor nb nob bokmal bokmål
th|Thai|tha
ur|Urdu|urd
hr|Croatian|hrv
bg|Bulgarian|bul
lt|Lithuanian|lit
la|Latin|lat
mi|Maori|mri mao māori
ml|Malayalam|mal
cy|Welsh|cym wel
sk|Slovak|slk slo
te|Telugu|tel
fa|Persian|fas per farsi
lv|Latvian|lav lvs
bn|Bengali|ben bangla
sr|Serbian|srp
az|Azerbaijani|aze azj
sl|Slovenian|slv slovene
kn|Kannada|kan
et|Estonian|est ekk
mk|Macedonian|mkd mac
br|Breton|bre
eu|Basque|eus baq
is|Icelandic|isl ice
hy|Armenian|hye arm
ne|Nepali|nep npi
mn|Mongolian|mon khk
bs|Bosnian|bos
kk|Kazakh|kaz
sq|Albanian|sqi alb als
sw|Swahili|swa swh
gl|Galician|glg
mr|Marathi|mar
pa|Punjabi|pan panjabi
si|Sinhala|sin sinhalese
km|Khmer|khm
sn|Shona|sna
yo|Yoruba|yor
so|Somali|som
af|Afrikaans|afr
oc|Occitan|oci
ka|Georgian|kat geo
be|Belarusian|bel
tg|Tajik|tgk
sd|Sindhi|snd
gu|Gujarati|guj
am|Amharic|amh
yi|Yiddish|yid ji
lo|Lao|lao
uz|Uzbek|uzb uzn
fo|Faroese|fao
ht|Haitian Creole|hat haitian
ps|Pashto|pus pushto
tk|Turkmen|tuk
nn|Nynorsk|nno
mt|Maltese|mlt
sa|Sanskrit|san
lb|Luxembourgish|ltz letzeburgesch
my|Myanmar|mya bur burmese
bo|Tibetan|bod tib
tl|Tagalog|tgl fil filipino
mg|Malagasy|mlg plt
as|Assamese|asm
tt|Tatar|tat
haw|Hawaiian|
ln|Lingala|lin
ha|Hausa|hau
ba|Bashkir|bak
jw|Javanese|jv jav
su|Sundanese|sun
yue|Cantonese|
"""

_ROWS = tuple(line.split("|") for line in _TABLE.strip().splitlines())

LANGUAGES: dict[str, str] = {code: name for code, name, _ in _ROWS}
"""Whisper's code to its English name, in the order of Whisper's tokens."""

_CODES: dict[str, str] = {
    spelling: code for code, name, others in _ROWS for spelling in (code, name.lower(), *others.split())
}
_DETECT = frozenset({"", "auto", "detect", "multi", "und"})


def normalise_language(name: str | None) -> str | None:
    """Whisper's code for "pt", "pt-BR", "PT", "por" or "Portuguese"; None for "auto" and nothing: detect.

    Raises `UnsupportedLanguage`.
    """
    spelling = " ".join((name or "").strip().lower().replace("_", "-").split())
    if spelling in _DETECT:
        return None
    code = _CODES.get(spelling) or _CODES.get(spelling.replace("-", " "))
    # BCP 47: the primary language is what comes before the first hyphen (pt-BR, zh-Hant-TW).
    code = code or _CODES.get(spelling.partition("-")[0])
    if code is None:
        raise UnsupportedLanguage(
            f"unknown language {(name or '')[:40]!r}: expected 'auto', a code such as 'pt' or 'pt-BR', "
            "or an English name such as 'Portuguese'"
        )
    return code


def codes_of(num_languages: int) -> tuple[str, ...]:
    """The codes of a model that has this many languages: 1 (English only), 99, or 100 with Cantonese."""
    return tuple(LANGUAGES)[:num_languages]
