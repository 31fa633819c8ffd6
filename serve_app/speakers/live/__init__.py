"""Live sessions: windows of ten seconds, and labels that stay the same."""
