"""Print docs/languages.md."""

import sys

from serve_app.models.languages.document import languages_document

if __name__ == "__main__":
    sys.stdout.buffer.write(languages_document().encode("utf-8"))
