"""``python -m gancompress``."""

from gancompress.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
