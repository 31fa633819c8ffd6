"""Print docs/settings.md."""

import sys

from serve_app.settings.document import settings_document

if __name__ == "__main__":
    sys.stdout.write(settings_document())
