"""Whisper's languages as rows: code, English name, native names, other names and codes.

Codes, English names and their order are Whisper's own (whisper/tokenizer.py, `LANGUAGES`); the three-letter
codes are ISO 639-2 (both forms) and 639-3. `yue` came with the large-v3 models.
"""

from __future__ import annotations

from dataclasses import dataclass


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
