"""How final text is written: spaces, capitals and numbers put right on request."""

from serve_app.formatting.stage import FormattingOptions, format_text, format_words

__all__ = ["FormattingOptions", "format_text", "format_words"]
