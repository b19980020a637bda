"""``python -m code_import`` is ``code-import``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
