"""What `cmake --install` puts on a machine: programs, pages, and units that systemd takes."""

import pathlib
import re

from holdfast import case, paths
from holdfast.process import run

BUILD = pathlib.Path(paths.program("holdfast")).parent.parent
UNITS = ["holdfast-targetd.service", "holdfast-mpiod.service", "holdfast-qdiskd.service"]


class Install(case.TestCase):
    def install(self, prefix="/usr", check=True):
        # DESTDIR: nothing of this machine is touched.
        return run(["cmake", "--install", BUILD, "--prefix", prefix], check=check,
                   env={"DESTDIR": str(self.scratch), "PATH": "/usr/bin:/bin"})

    def test_the_programs_run_and_the_units_name_them(self):
        self.install()
        for name in ("holdfast", "holdfast-targetd", "holdfast-mpiod", "holdfast-qdiskd"):
            program = self.scratch / "usr/bin" / name
            self.assertRegex(run([program, "--version"]).stdout, rf"^{name} \d+\.\d+")
        for unit in UNITS:
            text = (self.scratch / "usr/lib/systemd/system" / unit).read_text()
            named = re.findall(r"^Exec(?:Start|StartPre)=(\S+)", text, re.M)
            self.assertEqual(len(named), 2, text)
            for program in named:
                self.assertTrue((self.scratch / program.lstrip("/")).exists(), program)
            page = re.search(r"^Documentation=file:(\S+)", text, re.M)[1]
            self.assertTrue((self.scratch / page.lstrip("/")).exists(), page)

    def test_systemd_finds_nothing_wrong_with_the_units(self):
        self.install()
        kill = self.scratch / "bin" / "kill"  # what else the units run
        kill.parent.mkdir()
        kill.write_text("#!/bin/sh\n")
        kill.chmod(0o755)
        for unit in UNITS:
            checked = run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                           f"--root={self.scratch}", unit], check=False)
            self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""), unit)

    def test_one_service_that_stops_leaves_the_sockets_of_the_other(self):
        # Both have /run/holdfast by default; systemd removes it with a service that owns it.
        self.install()
        for unit in UNITS:
            text = (self.scratch / "usr/lib/systemd/system" / unit).read_text()
            self.assertRegex(text, r"(?m)^RuntimeDirectory=holdfast$")
            self.assertRegex(text, r"(?m)^RuntimeDirectoryPreserve=yes$")

    def test_another_prefix_is_refused(self):
        refused = self.install("/opt/holdfast", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("give --prefix /usr", refused.stderr)


if __name__ == "__main__":
    case.main()
