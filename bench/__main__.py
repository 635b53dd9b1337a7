"""`python -m bench` is `iobench`."""

from bench.cli import main

if __name__ == "__main__":
    main()
