"""Reads the Yocto layer with bitbake's own parser, with empty classes in place of openembedded-core's.

What stands in those classes is not tested here; what this layer says is.
"""
import io
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

# The hash equivalence server, which the package from PyPI leaves out and parsing does not need.
for module in ("hashserv", "hashserv.client"):
    sys.modules[module] = types.ModuleType(module)

import bb.cookerdata
import bb.data
import bb.parse
import bb.siggen

ROOT = Path(__file__).resolve().parent.parent.parent
LAYER = ROOT / "yocto/meta-mote"

# openembedded-core's classes that this layer inherits. Another name is an error.
CORE_CLASSES = """allarch base cargo cargo-update-recipe-crates core-image features_check kernel kernel-yocto
    native packagegroup pkgconfig systemd update-rc.d useradd""".split()

# From openembedded-core's bitbake.conf.
CORE_VARIABLES = {
    "bindir": "/usr/bin",
    "localstatedir": "/var",
    "nonarch_base_libdir": "/lib",
    "sysconfdir": "/etc",
    "systemd_system_unitdir": "/lib/systemd/system",
    "BPN": "${PN}",
    "BP": "${BPN}-${PV}",
    "BB_FETCH_PREMIRRORONLY": "0",
    "CARGO_BUILD_FLAGS": "--frozen",
    "COMMON_LICENSE_DIR": "/nowhere/common-licenses",
    "DISTRO_VERSION": "6.0",
    "IMAGE_BASENAME": "${PN}",
    "MACHINE": "qemuarm64",
    "PERSISTENT_DIR": "${TMPDIR}/cache",
    "S": "${UNPACKDIR}/${BP}",
    "SRCPV": "",
    "T": "${WORKDIR}/temp",
    "TARGET_ARCH": "aarch64",
    "UNPACKDIR": "${WORKDIR}/sources",
    "WORKDIR": "${TMPDIR}/work/${PN}",
    "FILESPATH": "${THISDIR}/${BPN}:${THISDIR}/files",
    "THISDIR": "${@os.path.dirname(d.getVar('FILE'))}",
}

# What base.bbclass and logging.bbclass give to shell tasks.
SHELL = """
set -e
bbfatal() { echo "FATAL: $*"; exit 1; }
"""


class Workspace:
    """A place for stub classes and for what tasks write."""

    def __init__(self, layer=LAYER):
        self.layer = Path(layer)
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name)
        classes = self.path / "classes"
        classes.mkdir()
        for name in CORE_CLASSES:
            (classes / f"{name}.bbclass").write_text("")
        # Recipes append to what these classes do.
        (classes / "cargo.bbclass").write_text("do_install() {\n    :\n}\n")
        for name in ("kernel", "kernel-yocto"):
            (classes / f"{name}.bbclass").write_text("do_configure() {\n    :\n}\n")

    def close(self):
        self._directory.cleanup()

    def configuration(self, **variables):
        """The datastore after layer.conf and the core's variables."""
        d = bb.data.init()
        d.setVar("__bbclasstype", "recipe")
        d.setVar("BBPATH", str(self.path))
        d.setVar("TMPDIR", str(self.path))
        d.setVar("TOPDIR", str(self.path))
        d.setVar("DL_DIR", str(self.path / "downloads"))
        d.setVar("LAYERDIR", str(self.layer))
        d = bb.cookerdata.parse_config_file(str(self.layer / "conf/layer.conf"), d)
        for name, value in {**CORE_VARIABLES, **variables}.items():
            d.setVar(name, value)
        return d

    def parse(self, recipe, overrides="class-target", **variables):
        """A recipe's datastore."""
        path = Path(recipe) if os.path.isabs(recipe) else self.layer / recipe
        d = self.configuration(PN=path.name.split("_")[0].removesuffix(".bb"), OVERRIDES=overrides, **variables)
        bb.parse.siggen = bb.siggen.SignatureGenerator(d)
        return bb.parse.handle(str(path), d, False)[""]

    def run(self, task, d, **environment):
        """Runs a shell function, expanded as bitbake does it. Gives exit status and output."""
        script = io.StringIO()
        bb.data.emit_func(task, script, d)
        return subprocess.run(
            ["sh", "-c", f"{script.getvalue()}\n{SHELL}\n{task}"],
            env={"PATH": os.environ["PATH"], **environment}, cwd=self.path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )


RECIPES = sorted(str(path.relative_to(LAYER)) for path in LAYER.glob("recipes-*/*/*.bb"))
AGENT = "recipes-security/mote/mote-agent_git.bb"
VERIFIER = "recipes-security/mote/mote-verifier_git.bb"
CRATES = "recipes-security/mote/mote-agent-crates.inc"
