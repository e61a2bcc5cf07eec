"""`python -m pipeline`: the library's commands, where there is no Prefect."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
