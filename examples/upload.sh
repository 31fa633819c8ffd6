#!/usr/bin/env bash
# An upload with its transcript as JSON, then the same file as a streaming upload: lines of JSON while it goes up.
set -euo pipefail
file=$1
url=${2:-http://127.0.0.1:8000}

curl --fail-with-body --silent --show-error -F file=@"$file" "$url/transcribe?language=en&word_timestamps=true"
echo
curl --fail-with-body --silent --show-error --no-buffer -X POST -H "Content-Type: audio/flac" -T "$file" \
	"$url/transcribe/stream?language=en"
