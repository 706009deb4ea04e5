"""What the layer does to an image: kernel, manifest, configuration; and that it does nothing unasked."""
import os
import re
import shutil
import subprocess
import sys
import tomllib
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from yocto_layer import AGENT, LAYER, ROOT, Workspace

import bb.data
import jsonschema
import yaml
from kas.configschema import CONFIGSCHEMA

BIN = Path(os.environ["MOTE_BIN_DIR"])
FRAGMENTS = LAYER / "recipes-kernel/linux/mote-kmeta/features/mote"
KERNEL_APPEND = LAYER / "recipes-kernel/linux/linux-yocto_%.bbappend"
IMAGE = "recipes-core/images/mote-image-demo.bb"
OPTION = re.compile(r"CONFIG_[A-Z0-9_]+=([ymn]|\d+|\"[^\"]*\")|# CONFIG_[A-Z0-9_]+ is not set")


def options(path):
    """The lines of a kernel fragment that set something."""
    lines = path.read_text().splitlines()
    return [line for line in lines if line.startswith("CONFIG_") or line.endswith(" is not set")]


def motectl(*arguments):
    return subprocess.run([BIN / "motectl", *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.workspace = Workspace()
        self.addCleanup(self.workspace.close)
        self.path = self.workspace.path

    def assertFatal(self, result, *words):
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertIn("FATAL: ", result.stdout)
        for word in words:
            self.assertIn(word, result.stdout)


class Layer(Case):
    def test_layer_conf_sets_only_its_own_variables(self):
        d = bb.data.init()
        d.setVar("LAYERDIR", str(LAYER))
        d = bb.cookerdata.parse_config_file(str(LAYER / "conf/layer.conf"), d)
        added = {key for key in d.keys() if not key.startswith("_")} - {"FILE", "LAYERDIR"}
        self.assertEqual(added, {
            "BBFILES", "BBPATH", "BBFILE_COLLECTIONS", "BBFILE_PATTERN_mote", "BBFILE_PRIORITY_mote", "LAYERDEPENDS_mote",
            "LAYERRECOMMENDS_mote", "LAYERSERIES_COMPAT_mote", "LAYERVERSION_mote", "MOTE_LAYERDIR", "UNPACKDIR",
        })
        # Only scarthgap needs it; a default is overruled by the others' bitbake.conf.
        self.assertIsNone(d.getVar("UNPACKDIR", noweakdefault=True))

    def kernel(self, append, kind="kernel-yocto", **variables):
        """A kernel recipe with lines appended to it."""
        recipe = self.path / "linux-yocto_6.18.bb"
        recipe.write_text(f"inherit {kind}\n{append}")
        return self.workspace.parse(recipe, FILESEXTRAPATHS="", B=str(self.path / "build"), **variables)

    def test_without_the_feature_the_kernel_recipe_is_untouched(self):
        def contents(d):
            return {key: d.getVarFlags(key, internalflags=True) for key in d.keys() if not key.startswith("__")}

        append = KERNEL_APPEND.read_text()
        for features in ("", "systemd ima tpm2"):
            bare = contents(self.kernel("", DISTRO_FEATURES=features))
            self.assertEqual(contents(self.kernel(append, DISTRO_FEATURES=features)), bare)
            self.assertNotEqual(contents(self.kernel(append, DISTRO_FEATURES="mote " + features)), bare)

    def test_only_the_kernel_of_openembedded_core_is_appended_to(self):
        self.assertEqual(list(LAYER.rglob("*.bbappend")), [KERNEL_APPEND])

    def test_everything_else_wants_the_feature(self):
        for recipe in LAYER.glob("recipes-*/*/*.bb"):
            if recipe.name.startswith("mote-verifier"):
                continue
            self.assertEqual(self.workspace.parse(recipe).getVar("REQUIRED_DISTRO_FEATURES"), "mote", recipe)

    def test_fragments_are_well_formed_and_described(self):
        fragments = sorted(FRAGMENTS.glob("*.cfg"))
        self.assertEqual([f.stem for f in fragments],
                         ["mote", "tpm-crb", "tpm-ftpm", "tpm-i2c", "tpm-spi", "tpm-tis"])
        for fragment in fragments:
            self.assertTrue(options(fragment), fragment)
            for line in options(fragment):
                self.assertRegex(line, OPTION, fragment)
            scc = fragment.with_suffix(".scc").read_text()
            self.assertRegex(scc, rf"(?m)^kconf (non-)?hardware {fragment.name}$")

    def test_fragments_are_those_of_the_buildroot_tree(self):
        board = ROOT / "buildroot/board"
        self.assertEqual(options(FRAGMENTS / "mote.cfg"), options(board / "common/mote.config"))
        chosen = {"qemu-aarch64": ["tpm-tis"], "qemu-x86_64": ["tpm-tis", "tpm-crb"]}
        for name, buses in chosen.items():
            ours = {line for bus in buses for line in options(FRAGMENTS / f"{bus}.cfg")}
            self.assertEqual(ours, set(options(board / name / "tpm.config")), name)

    def test_chosen_buses_become_kernel_features(self):
        append = KERNEL_APPEND.read_text()
        for architecture, settings, wanted in (
            ("aarch64", {}, ["mote", "tpm-tis"]),
            ("x86_64", {}, ["mote", "tpm-tis", "tpm-crb"]),
            ("x86_64", {"MOTE_TPM": "spi i2c ftpm"}, ["mote", "tpm-spi", "tpm-i2c", "tpm-ftpm"]),
        ):
            d = self.kernel(append, DISTRO_FEATURES="mote", TARGET_ARCH=architecture, **settings)
            features = d.getVar("KERNEL_FEATURES").split()
            self.assertEqual(features, [f"features/mote/{part}.scc" for part in wanted])
            for feature in features:
                self.assertTrue((LAYER / "recipes-kernel/linux/mote-kmeta" / feature).exists(), feature)

    def built_kernel(self, kind="kernel-yocto"):
        d = self.kernel("inherit mote-kernel\n", kind, UNPACKDIR=str(self.path / "unpacked"),
                        KERNEL_CONFIG_COMMAND="echo olddefconfig ran")
        shutil.copytree(FRAGMENTS.parent.parent, self.path / "unpacked/mote-kmeta", dirs_exist_ok=True)
        (self.path / "build").mkdir(exist_ok=True)
        return d, self.path / "build/.config"

    def test_an_option_that_kconfig_dropped_fails_the_build_by_name(self):
        d, config = self.built_kernel()
        self.assertIn("mote_check_kernel_config", d.getVarFlag("do_configure", "postfuncs").split())
        wanted = options(FRAGMENTS / "mote.cfg") + options(FRAGMENTS / "tpm-tis.cfg")
        config.write_text("\n".join(wanted) + "\n")
        result = self.workspace.run("mote_check_kernel_config", d)
        self.assertEqual(result.returncode, 0, result.stdout)
        for dropped in wanted:
            name = re.search(r"CONFIG_\w+", dropped).group()
            without = [line for line in wanted if line != dropped]
            without.append(f"{name}=y" if dropped.startswith("#") else f"# {name} is not set")
            config.write_text("\n".join(without) + "\n")
            self.assertFatal(self.workspace.run("mote_check_kernel_config", d), name)

    def test_a_vendor_kernel_gets_the_options_without_kernel_tools(self):
        d, config = self.built_kernel("kernel")
        config.write_text("# CONFIG_IMA is not set\n")
        result = self.workspace.run("do_configure", d)
        self.assertEqual((result.returncode, result.stdout), (0, "olddefconfig ran\n"))
        text = config.read_text()
        for line in options(FRAGMENTS / "mote.cfg") + options(FRAGMENTS / "tpm-tis.cfg"):
            self.assertIn(line, text)
        d, config = self.built_kernel("kernel-yocto")
        config.write_text("")
        self.assertEqual(self.workspace.run("do_configure", d).stdout, "")
        self.assertEqual(config.read_text(), "")


class Manifest(Case):
    def setUp(self):
        super().setUp()
        self.rootfs = self.path / "rootfs"
        (self.rootfs / "usr/bin").mkdir(parents=True)
        (self.rootfs / "usr/bin/program").write_text("program\n")
        (self.rootfs / "etc").mkdir()
        (self.rootfs / "etc/machine-id").write_text("")
        self.deployed = self.path / "deployed"
        self.deployed.mkdir()
        self.key = self.path / "image.key"
        motectl("key", "new", "--out", self.key)

    def image(self, **variables):
        return self.workspace.parse(IMAGE, **{
            "IMAGE_ROOTFS": str(self.rootfs), "IMGDEPLOYDIR": str(self.deployed), "MOTE_MANIFEST_KEY": str(self.key),
            "IMAGE_NAME": "demo-20261125", "IMAGE_LINK_NAME": "demo", "MOTE_MANIFEST_VERSION": "1.3", **variables})

    def build(self, **variables):
        path = f"{BIN}:{os.environ['PATH']}"
        return self.workspace.run("do_mote_manifest", self.image(**variables), PATH=path)

    def test_manifest_is_signed_and_holds_the_root_file_system(self):
        result = self.build()
        self.assertEqual(result.returncode, 0, result.stdout)
        manifest = self.deployed / "demo-20261125.mote"
        self.assertEqual(os.readlink(self.deployed / "demo.mote"), manifest.name)
        shown = motectl("manifest", "show", "--key", f"{self.key}.pub", manifest)
        for word in ("mote-image-demo-qemuarm64", "1.3", "/etc/machine-id"):
            self.assertIn(word, shown)
        digest = subprocess.run(["sha256sum", "usr/bin/program"], cwd=self.rootfs, check=True, text=True,
                                stdout=subprocess.PIPE).stdout.split()[0]
        files = motectl("manifest", "show", "--files", manifest)
        self.assertIn(f"{digest}  /usr/bin/program", files)
        self.assertNotIn("  /etc/machine-id", files)
        self.assertEqual(sorted(p.name for p in self.deployed.iterdir()), ["demo-20261125.mote", "demo.mote"])
        before = manifest.read_bytes()
        self.assertEqual(self.build().returncode, 0)
        self.assertEqual(manifest.read_bytes(), before)

    def test_another_key_does_not_pass(self):
        self.assertEqual(self.build().returncode, 0)
        motectl("key", "new", "--out", self.path / "other.key")
        with self.assertRaises(subprocess.CalledProcessError):
            motectl("manifest", "show", "--key", self.path / "other.key.pub", self.deployed / "demo.mote")

    def test_globs_and_further_options_reach_motectl_unexpanded(self):
        result = self.build(MOTE_MANIFEST_EXCLUDE="/usr/*/program", MOTE_MANIFEST_OPTIONS="--secure-boot")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("/usr/*/program", motectl("manifest", "show", self.deployed / "demo.mote"))
        self.assertNotIn("  /usr/bin/program", motectl("manifest", "show", "--files", self.deployed / "demo.mote"))

    def test_what_is_missing_is_said(self):
        self.assertFatal(self.build(MOTE_MANIFEST_KEY=""), "MOTE_MANIFEST_KEY is not set", "motectl key new")
        self.assertFatal(self.build(MOTE_MANIFEST_KEY="/nowhere/image.key"), "cannot read /nowhere/image.key")
        self.assertFatal(self.build(IMAGE_ROOTFS="/nowhere"), "motectl made no manifest of /nowhere")
        self.assertEqual(list(self.deployed.iterdir()), [])

    def test_task_runs_on_the_finished_root_file_system_before_deployment(self):
        d = self.image()
        self.assertIn("do_image", d.getVarFlag("do_mote_manifest", "deps"))
        self.assertIn("do_mote_manifest", d.getVarFlag("do_image_complete", "deps"))
        self.assertIn("mote-verifier-native:do_populate_sysroot", d.getVarFlag("do_mote_manifest", "depends"))

    def test_private_key_is_neither_hashed_nor_part_of_the_signature(self):
        d = self.image()
        self.assertIn("MOTE_MANIFEST_KEY", d.getVarFlag("do_mote_manifest", "vardepsexclude").split())
        self.assertEqual(d.getVarFlag("do_mote_manifest", "file-checksums").split(), [f"{self.key}.pub:True"])


class Agent(Case):
    def install(self, **variables):
        """Runs do_install with a chown that only notes what it was asked for."""
        tools = self.path / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "chown").write_text(f'#!/bin/sh\necho "$@" >>{self.path}/chown\n')
        (tools / "chown").chmod(0o755)
        unpacked = self.path / "unpacked"
        shutil.copytree(LAYER / "recipes-security/mote/mote-agent", unpacked, dirs_exist_ok=True)
        d = self.workspace.parse(AGENT, D=str(self.path / "image"), S=str(ROOT), UNPACKDIR=str(unpacked), **variables)
        return self.workspace.run("do_install", d, PATH=f"{tools}:{os.environ['PATH']}")

    def test_configuration_is_complete_and_for_root_and_the_agent_only(self):
        key = self.path / "key"
        motectl("key", "new", "--out", key)
        result = self.install(MOTE_VERIFIER="10.0.2.2", MOTE_VERIFIER_KEY=f"{key}.pub")
        self.assertEqual(result.returncode, 0, result.stdout)
        directory = self.path / "image/etc/mote"
        modes = {path.name: path.stat().st_mode & 0o777 for path in [directory, *directory.iterdir()]}
        self.assertEqual(modes, {"mote": 0o750, "agent.toml": 0o640, "verifier.pub": 0o640})
        self.assertEqual((self.path / "chown").read_text(), f"-R root:mote {directory}\n")
        settings = tomllib.loads((directory / "agent.toml").read_text())
        self.assertEqual(settings, {"user": "mote", "verifier": "10.0.2.2", "verifier_key": "/etc/mote/verifier.pub"})
        check = [BIN / "mote-agent", "--check-config", "--config", directory / "agent.toml",
                 "--verifier-key", directory / "verifier.pub"]
        self.assertEqual(subprocess.run(check, stdout=subprocess.DEVNULL, check=False).returncode, 0)
        for path, mode in (("lib/systemd/system/mote-agent.service", 0o644), ("etc/init.d/mote-agent", 0o755),
                           ("lib/udev/rules.d/60-mote.rules", 0o644)):
            self.assertEqual((self.path / "image" / path).stat().st_mode & 0o777, mode, path)

    def test_without_a_verifier_the_configuration_is_left_open(self):
        self.assertEqual(self.install().returncode, 0)
        self.assertEqual([p.name for p in (self.path / "image/etc/mote").iterdir()], ["agent.toml"])

    def test_a_verifier_without_its_key_fails_the_build(self):
        self.assertFatal(self.install(MOTE_VERIFIER="10.0.2.2"), "MOTE_VERIFIER_KEY")

    def test_agent_may_use_the_tpm_after_giving_up_root(self):
        d = self.workspace.parse(AGENT)
        self.assertIn("--groups tss", d.getVar("USERADD_PARAM:mote-agent"))
        self.assertIn("--system tss", d.getVar("GROUPADD_PARAM:mote-agent"))
        self.assertIn('GROUP="tss"', (ROOT / "agent/dist/60-mote.rules").read_text())


class Files(Case):
    def test_policy_measures_programs_wherever_they_lie(self):
        policy = (LAYER / "recipes-security/mote-ima-policy/mote-ima-policy/ima-policy").read_text()
        # The kernel takes less than a page at once.
        self.assertLess(len(policy), 4096)
        rules = [line for line in policy.splitlines() if line and not line.startswith("#")]
        for rule in rules:
            self.assertRegex(rule, r"^(dont_measure fsmagic=0x[0-9a-f]+|measure func=[A-Z_]+( mask=[A-Z_]+)?)$")
        for tmpfs in ("0x01021994", "0x1021994", "0x858458f6"):
            self.assertNotIn(f"dont_measure fsmagic={tmpfs}", rules)
        for function in ("BPRM_CHECK", "MMAP_CHECK mask=MAY_EXEC", "MODULE_CHECK", "FIRMWARE_CHECK", "POLICY_CHECK"):
            self.assertIn(f"measure func={function}", rules)

    def test_policy_has_the_rules_of_the_buildroot_tree(self):
        def rules(path):
            return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]

        self.assertEqual(rules(LAYER / "recipes-security/mote-ima-policy/mote-ima-policy/ima-policy"),
                         rules(ROOT / "buildroot/package/mote-ima-policy/ima-policy"))

    def test_kas_file_is_valid_and_names_the_demo_image(self):
        kas = yaml.safe_load((ROOT / "yocto/kas.yml").read_text())
        jsonschema.validate(kas, CONFIGSCHEMA)
        self.assertTrue((LAYER / f"recipes-core/images/{kas['target']}.bb").exists())
        layer, = kas["repos"]["mote"]["layers"]
        self.assertEqual(ROOT / layer, LAYER)

    def test_demo_gives_qemu_a_tpm_that_keeps_its_state(self):
        tools = self.path / "tools"
        tools.mkdir()
        # Stands in for runqemu: is there a socket where QEMU is told to look for one?
        (tools / "runqemu").write_text('#!/bin/sh\necho "$@"\nfor last; do :; done\n'
                                       'path=${last#*path=}\n[ -S "${path%% *}" ] && echo "socket"\n')
        (tools / "runqemu").chmod(0o755)
        for machine, device in (("qemuarm64", "tpm-tis-device"), ("qemux86-64", "tpm-crb")):
            result = subprocess.run([ROOT / "yocto/run-demo.sh", machine, "snapshot"], cwd=self.path, check=False,
                                    text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    env={"PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(self.path)})
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertRegex(result.stdout, rf"^{machine} mote-image-demo slirp nographic snapshot qemuparams=.* "
                                            rf"-device {device},tpmdev=tpm0\nsocket\n$")
            self.assertTrue((self.path / "mote-tpm" / machine).is_dir())

    def test_runtime_tests_compile(self):
        for path in LAYER.glob("lib/oeqa/**/*.py"):
            compile(path.read_text(), str(path), "exec")

    def test_readme_says_what_the_layer_check_looks_for(self):
        readme = (LAYER / "README.md").read_text().lower()
        for word in ("maintainer", "patch", "depends"):
            self.assertIn(word, readme)
        self.assertTrue((LAYER / "SECURITY.md").stat().st_size)


if __name__ == "__main__":
    unittest.main()
