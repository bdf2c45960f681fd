#!/usr/bin/env python3
"""Prints a pinned, hashed requirements file from pip's report, so that every download is fixed by version and sha256.

  pip install --dry-run --ignore-installed --only-binary=:all: --report report.json transformers==5.23.0 ...
  scripts/lock.py report.json [--without REGEX] > scripts/wheels/oracle.txt
"""
import argparse
import json
import re


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("report")
    arguments.add_argument("--without", default="$^", help="leave out the packages whose name matches")
    options = arguments.parse_args()
    with open(options.report, encoding="utf-8") as file:
        installs = json.load(file)["install"]
    for item in sorted(installs, key=lambda item: item["metadata"]["name"].lower()):
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if not re.search(options.without, name):
            print(f"{name}=={version} --hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}")


if __name__ == "__main__":
    main()
