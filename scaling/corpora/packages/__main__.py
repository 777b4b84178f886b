"""`python -m scaling.corpora.packages [--freeze]`: shows, or commits, the digests of the packages' text."""

from __future__ import annotations

import argparse
import json

from scaling.corpora import packages


def main() -> None:
    """Prints what differs from the committed digests; with --freeze, writes them anew."""
    parser = argparse.ArgumentParser(prog="python -m scaling.corpora.packages", description=__doc__)
    parser.add_argument("--freeze", action="store_true", help="write python_v1.json from the packages installed here")
    if parser.parse_args().freeze:
        packages.freeze()
    described = packages.frozen()
    totals = {key: sum(d[key] for d in described.values()) for key in ("files", "bytes")}
    print(json.dumps({"committed": totals, "differing": packages.differing()}, indent=1))


main()
