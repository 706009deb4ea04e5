"""Runs on a booted image: TEST_SUITES += "mote" """

from oeqa.core.decorator.depends import OETestDepends
from oeqa.runtime.case import OERuntimeTestCase
from oeqa.runtime.decorator.package import OEHasPackage

IMA = "/sys/kernel/security/ima"


class MoteTest(OERuntimeTestCase):
    def run_on_target(self, command):
        status, output = self.target.run(command)
        self.assertEqual(status, 0, msg="%s: %s" % (command, output))
        return output

    @OEHasPackage(["mote-agent"])
    @OETestDepends(["ssh.SSHTest.test_ssh"])
    def test_tpm_is_there(self):
        self.run_on_target("test -c /dev/tpmrm0")
        self.assertEqual(self.run_on_target("cat /sys/class/tpm/tpm0/tpm_version_major"), "2")

    @OETestDepends(["mote.MoteTest.test_tpm_is_there"])
    def test_ima_found_the_tpm(self):
        # A kernel whose TPM driver is a module measures into a list only: PCR 10 stays zero.
        pcr = self.run_on_target("cat /sys/class/tpm/tpm0/pcr-sha256/10")
        self.assertNotEqual(set(pcr), {"0"}, msg="PCR 10 is zero: is the TPM's driver built in?")

    @OETestDepends(["mote.MoteTest.test_tpm_is_there"])
    def test_ima_uses_sha256(self):
        last = self.run_on_target("tail -n 1 %s/ascii_runtime_measurements" % IMA)
        self.assertIn(" sha256:", last)

    @OEHasPackage(["mote-ima-policy"])
    @OETestDepends(["mote.MoteTest.test_ima_uses_sha256"])
    def test_policy_is_loaded(self):
        self.run_on_target("grep -q /etc/ima/ima-policy %s/ascii_runtime_measurements" % IMA)

    @OEHasPackage(["mote-agent"])
    @OETestDepends(["mote.MoteTest.test_tpm_is_there"])
    def test_configuration_is_not_for_everybody(self):
        mode = self.run_on_target("stat -c '%a %U %G' /etc/mote/agent.toml")
        self.assertEqual(mode, "640 root mote")

    @OEHasPackage(["mote-agent"])
    @OETestDepends(["mote.MoteTest.test_ima_found_the_tpm"])
    def test_agent_reaches_tpm_and_list(self):
        # Needs a verifier's address and key in the image, but no verifier.
        self.run_on_target("mote-agent --probe")

    @OEHasPackage(["mote-agent"])
    @OETestDepends(["mote.MoteTest.test_agent_reaches_tpm_and_list"])
    def test_agent_runs_unprivileged(self):
        pid = self.run_on_target("pidof mote-agent")
        self.assertEqual(self.run_on_target("stat -c %U /proc/%s" % pid), "mote")
