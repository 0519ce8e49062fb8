"""The commands of `tta`, one module each. Nothing here is imported by the library."""
