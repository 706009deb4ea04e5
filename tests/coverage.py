"""Sums up an LCOV file by module; see coverage.sh."""

import os
import re
import sys

LEAST = 90.0

# Module: what its files' paths begin with.
MODULES = {
    "quote": [
        "verifier-lite/src/quote.rs",
        "verifier-lite/src/elided.rs",
        "verifier-lite/src/signature.rs",
        "cbor-schemas/src/tpm/attest.rs",
        "cbor-schemas/src/tpm/elide.rs",
        "cbor-schemas/src/tpm/signature.rs",
    ],
    "ima": [
        "cbor-schemas/src/ima/",
        "verifier-lite/src/appraise/",
        "verifier-lite/src/boot_aggregate.rs",
        "verifier-lite/src/ima_signature/",
        "verifier-lite/src/log_entry.rs",
    ],
    "pcr": ["cbor-schemas/src/pcr/", "verifier-lite/src/prefix"],
    "bootlog": ["cbor-schemas/src/bootlog/", "verifier-lite/src/boot/"],
    "policy": ["verifier-lite/src/policy/"],
}


def tests_from(path):
    """Number of the line from which a file holds nothing but tests."""
    if os.path.basename(path) == "tests.rs":
        return 0
    with open(path, encoding="utf-8") as source:
        for number, line in enumerate(source, 1):
            if re.match(r"#\[cfg\(test\)\]", line):
                return number
    return sys.maxsize


def lines(lcov):
    """{path: {line: count}} of this repository's files, less their tests."""
    files = {}
    root = os.getcwd() + os.sep
    with open(lcov, encoding="utf-8") as text:
        for line in text:
            line = line.rstrip("\n")
            if line.startswith("SF:"):
                path = line[3:].removeprefix(root)
                known = not os.path.isabs(path) and os.path.exists(path)
                end = tests_from(path) if known else 0
                counts = files.setdefault(path, {}) if known else {}
            elif line.startswith("DA:"):
                number, count = (int(field) for field in line[3:].split(",")[:2])
                if number < end:
                    counts[number] = max(count, counts.get(number, 0))
    return files


def main():
    """Prints a figure for each module."""
    files = lines(sys.argv[1])
    failed = False
    for module, prefixes in MODULES.items():
        of_module = {p: c for p, c in files.items() if p.startswith(tuple(prefixes))}
        for prefix in prefixes:
            if not any(path.startswith(prefix) for path in of_module):
                sys.exit(f"coverage.py: nothing was compiled of {prefix}")
        counts = [n for counts in of_module.values() for n in counts.values()]
        share = 100.0 * sum(n > 0 for n in counts) / len(counts)
        failed |= share < LEAST
        print(f"figure coverage_{module} {share:.1f} % budget >= {LEAST:.0f}")
        if "--lines" in sys.argv:
            for path, by_line in sorted(of_module.items()):
                missed = [str(n) for n, count in sorted(by_line.items()) if count == 0]
                if missed:
                    print(f"  {path}: {' '.join(missed)}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
