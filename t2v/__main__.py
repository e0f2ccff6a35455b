"""`python -m t2v`: the command line where the `t2v` script is not on the path."""

from t2v.cli.main import main

main()
