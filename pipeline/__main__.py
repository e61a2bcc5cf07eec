"""`python -m pipeline`: the library's commands, where there is no Prefect."""

from pipeline.cli import main
from pipeline.cli_store import app

if __name__ == "__main__":
    main(app)
