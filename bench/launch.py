"""Run `servers` on any interpreter, as `python -m servers` does, with nothing on its path but what is its own.

    PYTHON launch.py FOLDER ARGUMENTS ...       FOLDER is that of the package `servers`

Where iobench is installed, `servers` lies among the packages of one interpreter, which another must not see: those that
are compiled would not even load. Standard library only, run by its path, and readable to a Python of any age.
"""

import sys


def main():  # type: ignore[no-untyped-def]
    """Make the package `servers` of the folder named first, and run it with the other arguments."""
    if sys.version_info < (3, 9):  # noqa: UP036 - it may be any Python
        sys.exit("Python %d.%d is older than 3.9, the oldest that the servers run on" % sys.version_info[:2])  # noqa: UP031

    import importlib.util  # noqa: PLC0415 - Python 2 has none
    import os  # noqa: PLC0415
    import runpy  # noqa: PLC0415

    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [place for place in sys.path if os.path.abspath(place or os.curdir) != here]  # noqa: PTH100
    folder = sys.argv.pop(1)
    init = os.path.join(folder, "__init__.py")  # noqa: PTH118
    spec = importlib.util.spec_from_file_location("servers", init, submodule_search_locations=[folder])
    sys.modules["servers"] = package = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(package)  # type: ignore[union-attr]
    runpy.run_module("servers", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()  # type: ignore[no-untyped-call]
