"""Print docs/metrics.md."""

import sys

from serve_app.telemetry.document import metrics_document

if __name__ == "__main__":
    sys.stdout.write(metrics_document())
