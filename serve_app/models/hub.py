"""Model files from the Hugging Face hub, or from what its cache already holds."""

from __future__ import annotations

from pathlib import Path

from serve_app.errors import ModelUnavailable

FILES = (
    "model.bin",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "vocabulary.*",
)
"""What a model folder may hold in either format; a repository's other formats are not fetched."""


def fetch_snapshot(repo: str, *, hf_home: Path | None, offline: bool, hf_token: str | None) -> Path:
    """The folder of a repository's newest snapshot; `offline` looks into the local cache alone.

    `hf_home` is the hub's own folder (None: where huggingface_hub keeps it). A download that was broken off
    goes on where it ended. Raises `ModelUnavailable`.
    """
    # Imported here, since most starts find their models without the hub and its HTTP client.
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, RevisionResolutionError, XetDownloadError

    try:
        return Path(
            snapshot_download(
                repo,
                allow_patterns=list(FILES),
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


def cached_snapshot(repo: str, *, hf_home: Path | None) -> Path | None:
    """The folder of a repository in the hub's cache, whole or not; asks no network and writes nothing."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repo, "config.json", cache_dir=hf_home / "hub" if hf_home else None)
    except (OSError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None
