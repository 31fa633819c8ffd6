"""Model files from the Hugging Face hub, or from what its cache already holds."""

from __future__ import annotations

from pathlib import Path

from serve_app.errors import ModelUnavailable

_FILES = ["model.bin", "config.json", "tokenizer.json", "preprocessor_config.json", "vocabulary.*"]


def fetch_snapshot(repo: str, *, hf_home: Path | None, offline: bool, hf_token: str | None) -> Path:
    """The folder of a repository's newest snapshot; `offline` looks into the local cache alone.

    `hf_home` is the hub's own folder (None: where huggingface_hub keeps it). Raises `ModelUnavailable`.
    """
    # Imported here, since most starts find their models without the hub and its HTTP client.
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, RevisionResolutionError, XetDownloadError

    try:
        return Path(
            snapshot_download(
                repo,
                allow_patterns=_FILES,
                cache_dir=hf_home / "hub" if hf_home else None,
                local_files_only=offline,
                token=hf_token,
            )
        )
    except (
        OSError,
        ValueError,
        httpx.HTTPError,
        EntryNotFoundError,
        RevisionResolutionError,
        XetDownloadError,
    ) as error:
        if offline:
            raise ModelUnavailable(f"hub: offline, and {repo} is not in its cache") from error
        # The hub's messages run over many lines and name request ids; the first line says enough.
        reason = str(error).strip().splitlines() or [""]
        raise ModelUnavailable(f"hub: {repo}: {type(error).__name__}: {reason[0][:200]}") from error
