"""`python -m app` is `concept-forget`."""

from app.cli import main

if __name__ == "__main__":
    main()
