"""The recipes against Cargo.lock, cargo's metadata, the licence and the repository's history."""
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from yocto_layer import AGENT, CRATES, LAYER, RECIPES, ROOT, VERIFIER, Workspace

import bb.fetch2

TARGETS = ["aarch64", "armv7", "riscv64gc", "x86_64"]


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout


def git_has(thing):
    return subprocess.run(["git", "cat-file", "-e", thing], cwd=ROOT, stderr=subprocess.DEVNULL, check=False).returncode == 0


def crates_locked():
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return {(p["name"], p["version"]): p["checksum"] for p in packages if "source" in p}


def crates_fetched(d):
    """What bitbake's fetcher would download, and the checksum that it would insist on."""
    urls = [url for url in d.getVar("SRC_URI").split() if url.startswith("crate://")]
    fetch = bb.fetch2.Fetch(urls, d, cache=False)
    crates = {}
    for url in urls:
        _, _, host, name, version = url.split("/")
        assert host == "crates.io", url
        assert (name, version) not in crates, f"twice: {url}"
        crates[name, version] = fetch.ud[url].sha256_expected
    return crates


def licence_terms(expression):
    """An SPDX expression as alternatives, each a set of licences that hold together."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR ").replace(" WITH ", "-with-"))

    def either():
        terms = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            terms = terms + both()
        return terms

    def both():
        terms = single()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            right = single()
            terms = [a | b for a in terms for b in right]
        return terms

    def single():
        token = tokens.pop(0)
        if token != "(":
            return [frozenset([token])]
        terms = either()
        assert tokens.pop(0) == ")", expression
        return terms

    terms = either()
    assert not tokens, expression
    return terms


class Recipes(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.workspace = Workspace()
        self.addCleanup(self.workspace.close)

    def test_every_recipe_parses(self):
        self.assertGreaterEqual(len(RECIPES), 5)
        for recipe in RECIPES:
            d = self.workspace.parse(recipe)
            for name in ("SUMMARY", "DESCRIPTION", "HOMEPAGE", "BUGTRACKER", "CVE_PRODUCT"):
                self.assertTrue(d.getVar(name), f"{recipe}: {name}")

    def test_crates_are_those_of_the_lock_file(self):
        for recipe in (AGENT, VERIFIER):
            self.assertEqual(crates_fetched(self.workspace.parse(recipe)), crates_locked(), recipe)

    def test_a_changed_list_of_crates_is_noticed(self):
        original = (LAYER / CRATES).read_text()
        digit = re.search(r'sha256sum\] = "([0-9a-f])', original)
        line = re.search(r"^    crate://.*\n", original, re.MULTILINE).group()
        checksum = re.search(r"^SRC_URI\[.*\n", original, re.MULTILINE).group()
        changes = {
            "checksum": original[: digit.start(1)] + ("1" if digit.group(1) == "0" else "0") + original[digit.end(1):],
            "crate dropped": original.replace(line, ""),
            "checksum dropped": original.replace(checksum, ""),
            "version": re.sub(r"(crate://crates.io/aes/)[^ ]*", r"\g<1>0.0.1", original, count=1),
            "one too many": original.replace(line, line + "    crate://crates.io/left-pad/1.0.0 \\\n"),
        }
        for name, text in changes.items():
            self.assertNotEqual(text, original, name)
            with self.subTest(name), tempfile.TemporaryDirectory() as copy:
                layer = Path(copy) / "meta-mote"
                shutil.copytree(LAYER, layer)
                (layer / CRATES).write_text(text)
                workspace = Workspace(layer)
                self.addCleanup(workspace.close)
                self.assertNotEqual(crates_fetched(workspace.parse(AGENT)), crates_locked())
                check = [ROOT / "yocto/crates.py", "--check", ROOT / "Cargo.lock", layer / CRATES]
                self.assertEqual(subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode, 1)

    def test_packageconfig_is_the_agents_features(self):
        metadata = json.loads(output("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"))
        features = next(p["features"] for p in metadata["packages"] if p["name"] == "mote-agent")
        # A dependency's name as a feature would be one that nobody meant to offer.
        wanted = {name for name in features if name != "default"}
        d = self.workspace.parse(AGENT)
        offered = {name: value.split(",") for name, value in d.getVarFlags("PACKAGECONFIG").items() if name != "doc"}
        self.assertEqual(set(offered), wanted)
        for name, fields in offered.items():
            self.assertEqual(fields[0], f"--features={name}")
            enables_tss = "esapi" in ([name] + features[name])
            self.assertEqual("tpm2-tss" in fields[2:3], enables_tss, name)
        # tpm2-tss opens its TCTI by name at run time: no linker tells the package manager.
        self.assertIn("libtss2-tcti-device", offered["esapi"][3].split())
        self.assertIn("--no-default-features", d.getVar("CARGO_BUILD_FLAGS"))
        self.assertIn("${PACKAGECONFIG_CONFARGS}", d.getVar("CARGO_BUILD_FLAGS", False))
        chosen = set(d.getVar("PACKAGECONFIG").split())
        self.assertLessEqual(chosen, wanted)
        self.assertTrue(chosen & {"esapi", "tpm-direct"}, "no way to a TPM")

    def test_licences_are_those_of_what_is_linked(self):
        for recipe, package in ((AGENT, "mote-agent"), (VERIFIER, "mote-verifier")):
            stated = {name.strip() for name in self.workspace.parse(recipe).getVar("LICENSE").split("&")}
            needed = set()
            for target in TARGETS:
                abi = "gnueabihf" if target == "armv7" else "gnu"
                tree = output("cargo", "tree", "--locked", "--package", package, "--all-features",
                              "--edges", "normal,no-proc-macro", "--target", f"{target}-unknown-linux-{abi}",
                              "--prefix", "none", "--format", "{p}|{l}")
                for line in set(tree.splitlines()):
                    crate, expression = line.removesuffix(" (*)").split("|")
                    terms = [term for term in licence_terms(expression) if term <= stated]
                    self.assertTrue(terms, f"{recipe}: LICENSE does not cover {crate}: {expression}")
                    if len(licence_terms(expression)) == 1:
                        needed |= terms[0]
            self.assertEqual(stated, needed, f"{recipe}: LICENSE names what no crate needs")

    def test_licence_file_has_the_stated_checksum(self):
        stated = self.workspace.parse(AGENT).getVar("LIC_FILES_CHKSUM")
        self.assertEqual(stated, "file://LICENSE;md5=" + hashlib.md5((ROOT / "LICENSE").read_bytes()).hexdigest())

    def test_every_file_of_the_layer_is_there_and_used(self):
        for recipe in RECIPES:
            d = self.workspace.parse(recipe)
            names = {u.removeprefix("file://") for u in (d.getVar("SRC_URI") or "").split() if u.startswith("file://")}
            directory = LAYER / recipe
            directory = directory.parent / d.getVar("BPN")
            present = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
            self.assertEqual(names, present, recipe)

    def test_version_is_the_workspaces(self):
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        for recipe in (AGENT, VERIFIER):
            self.assertEqual(self.workspace.parse(recipe).getVar("PV"), f"{version}+git")

    def test_pinned_commit_goes_with_the_recipes(self):
        commit = self.workspace.parse(AGENT).getVar("SRCREV")
        self.assertRegex(commit, "^[0-9a-f]{40}$")
        if output("git", "rev-parse", "--is-shallow-repository").strip() == "true" and not git_has(commit):
            self.skipTest("a shallow clone has no history")
        self.assertTrue(git_has(f"{commit}^{{commit}}"), f"SRCREV {commit} is no commit of this repository")
        # The commit that changes Cargo.lock cannot name itself as SRCREV; the next one must.
        parent = "HEAD~1" if git_has("HEAD~1") else "HEAD"
        lock = output("git", "rev-parse", f"{commit}:Cargo.lock")
        self.assertIn(lock, output("git", "rev-parse", "HEAD:Cargo.lock", f"{parent}:Cargo.lock").splitlines(True),
                      "Cargo.lock has changed since SRCREV: run yocto/crates.py --pin")
        d = self.workspace.parse(AGENT)
        flags = self.workspace.parse(AGENT, RUST_PANIC_STRATEGY="abort").getVar("RUSTFLAGS", False)
        for path in re.findall(r"\$\{S\}/(\S+)", d.getVar("do_install", False) + flags) + ["LICENSE", "agent/Cargo.toml"]:
            self.assertTrue(git_has(f"{commit}:{path}"), f"{path} is not in {commit}")

    def test_linker_flags_are_for_a_libstd_that_aborts(self):
        def flags(**variables):
            d = self.workspace.parse(AGENT, S=str(ROOT), RUSTFLAGS="-C first", **{"TCLIBC": "glibc", **variables})
            # As oe_cargo_build in cargo.bbclass sets them.
            d.setVar("show", 'export RUSTFLAGS="${RUSTFLAGS}"\nprintf %s "$RUSTFLAGS"\n')
            d.setVarFlag("show", "func", "1")
            result = self.workspace.run("show", d)
            self.assertEqual(result.returncode, 0, result.stdout)
            return result.stdout

        self.assertEqual(flags(), "-C first")
        self.assertEqual(flags(RUST_PANIC_STRATEGY="unwind"), "-C first")
        self.assertEqual(flags(RUST_PANIC_STRATEGY="abort", TCLIBC="musl"), "-C first")
        script = [ROOT / "agent/linker/rustflags.sh", "--relr", "--compact"]
        self.assertEqual(flags(RUST_PANIC_STRATEGY="abort"), f"-C first {output(*script)}".strip())
        self.assertEqual(flags(RUST_PANIC_STRATEGY="abort", PACKAGECONFIG="tpm-direct tls"),
                         f"-C first {output(*script, '--tls')}".strip())

    def test_native_builds_the_tool_only(self):
        flags = self.workspace.parse(VERIFIER, "class-native").getVar("CARGO_BUILD_FLAGS")
        self.assertIn("--bin motectl", flags)
        self.assertNotIn("--bin", self.workspace.parse(VERIFIER).getVar("CARGO_BUILD_FLAGS"))


if __name__ == "__main__":
    unittest.main()
