#!/usr/bin/env python3
"""Checks that every crate in the lock file that a package is built from suits that package's rust-version.

    cargo metadata --locked --format-version 1 | tests/msrv.py mote-agent mote-schemas

Normal and build dependencies count, for every target; dev-dependencies never reach an image build.
"""
import json
import sys


def version(text):
    return tuple(int(part) for part in (text.split(".") + ["0", "0"])[:3])


metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
by_name = {packages[member]["name"]: member for member in metadata["workspace_members"]}
failed = False
for name in sys.argv[1:]:
    root = packages[by_name[name]]
    seen, queue = set(), [root["id"]]
    while queue:
        current = queue.pop()
        if current in seen:
            continue
        seen.add(current)
        for dependency in nodes[current]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                queue.append(dependency["pkg"])
    wants = root["rust_version"]
    bad = sorted(
        f'{package["name"]} {package["version"]} needs Rust {package["rust_version"]}'
        for package in (packages[each] for each in seen)
        if package["rust_version"] and version(package["rust_version"]) > version(wants)
    )
    silent = sum(not packages[each]["rust_version"] for each in seen)
    print(f"{name}: {len(seen)} crates, Rust {wants}, {silent} do not say what they need")
    for line in bad:
        print(f"  {line}")
    failed |= bool(bad) or len(seen) < 2
sys.exit(failed)
