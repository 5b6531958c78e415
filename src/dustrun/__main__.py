"""`python -m dustrun` is the command line."""

from dustrun.cli.main import main

if __name__ == "__main__":
    main()
