#!/usr/bin/env python3
"""Prints a pinned, hashed requirements file from pip's reports, so that every download is fixed by version and sha256.

  for version in 3.11 3.12 3.13; do
    pip install --dry-run --ignore-installed --only-binary=:all: --python-version $version --target none --report $version.json transformers==5.23.0 ...
  done
  scripts/lock.py 3.11.json 3.12.json 3.13.json [--without REGEX] > scripts/wheels/oracle.txt

One report a Python: a package that comes compiled has a wheel, and so a hash, for each. The versions must be the same in all reports.
"""
import argparse
import json
import re
import sys


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("reports", nargs="+", metavar="report")
    arguments.add_argument("--without", default="$^", help="leave out the packages whose name matches")
    options = arguments.parse_args()
    pins = {}
    for report in options.reports:
        with open(report, encoding="utf-8") as file:
            for item in json.load(file)["install"]:
                pin = f"{item['metadata']['name']}=={item['metadata']['version']}"
                pins.setdefault(pin, []).append(item["download_info"]["archive_info"]["hashes"]["sha256"])
    incomplete = [pin for pin, hashes in pins.items() if len(hashes) != len(options.reports)]
    if incomplete:
        sys.exit(f"error: not in every report: {', '.join(incomplete)}")
    for pin in sorted(pins, key=str.lower):
        if not re.search(options.without, pin.partition("==")[0]):
            print(pin, *(f"--hash=sha256:{digest}" for digest in dict.fromkeys(pins[pin])))


if __name__ == "__main__":
    main()
