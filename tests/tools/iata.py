#!/usr/bin/env python3
"""Makes src/control/iata.csv, the table of places by IATA code, from the airportsdata package.

    pip download --no-deps airportsdata==20260905
    unzip airportsdata-20260905-py3-none-any.whl
    tests/tools/iata.py airportsdata/airports.csv >src/control/iata.csv

One line a code, sorted: code, latitude, longitude (degrees, four decimals: ten metres), zone.
Only of the standard library; never run by the build or by the tests.
"""

import csv
import sys

HEAD = """\
# Places by IATA code, from airportsdata 20260905.
# Made by tests/tools/iata.py; do not edit. MIT License:
# Copyright (c) 2020- Mike Borsetti; includes data Copyright (c) 2014 mwgg.
# The permission notice of that licence stands in docs/DECISIONS.md.
"""


def main() -> None:
    rows = {}
    with open(sys.argv[1], encoding="utf-8", newline="") as source:
        for row in csv.DictReader(source):
            code = row["iata"]
            if len(code) != 3 or not (code.isascii() and code.isalpha() and code.isupper()):
                continue
            if code in rows:
                raise SystemExit(f"{code} stands twice in the source")
            degrees = (f"{float(row[name]):.4f}".rstrip("0").rstrip(".") for name in ("lat", "lon"))
            rows[code] = ",".join([code, *degrees, row["tz"]])
    sys.stdout.write(HEAD)
    for code in sorted(rows):
        sys.stdout.write(rows[code] + "\n")


main()
