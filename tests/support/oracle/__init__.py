"""Random pipelines whose truth is known without DVC or us: what their programs write is a digest of what they read."""
