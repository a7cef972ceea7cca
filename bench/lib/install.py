"""What a run needs that may be missing: Debian packages, and fio with its libiscsi engine."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIO_DIR = ROOT / "build" / "fio"
PACKAGES = {
    "tgt": "the peer to compare with",
    "libiscsi-bin": "iscsi-perf",
    "qemu-utils": "qemu-img bench",
    "qemu-block-extra": "QEMU's iscsi driver",
    "fio": "the load on the NBD export",
    "iproute2": "network namespaces",
}
FIO_PACKAGES = {
    "build-essential": "to build fio",
    "dpkg-dev": "to unpack fio's Debian source package",
    "pkg-config": "fio's configure finds libiscsi with it",
    "libiscsi-dev": "fio's libiscsi engine",
    "zlib1g-dev": "fio",
}


class InstallError(Exception):
    """Carries a text that says what is missing and what to do."""


def _installed(package):
    query = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package],
                           capture_output=True, text=True, check=False)
    return query.returncode == 0 and query.stdout.endswith("ok installed")


def version(package):
    query = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                           capture_output=True, text=True, check=False)
    return query.stdout or "(not from a package)"


def packages(wanted):
    """Installs the Debian packages of `wanted` (name -> why) that are missing."""
    missing = [name for name in wanted if not _installed(name)]
    if not missing:
        return
    reasons = ", ".join(f"{name} ({wanted[name]})" for name in missing)
    if os.geteuid() != 0:
        raise InstallError(f"missing packages: {reasons}; installing them needs root: "
                           f"run 'apt-get install {' '.join(missing)}' as root, then run again")
    print(f"installing: {reasons}", flush=True)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        subprocess.run(["apt-get", "update"], stdout=subprocess.DEVNULL, check=False)
        if subprocess.run(install, env=environment, check=False).returncode:
            raise InstallError(f"apt-get could not install {' '.join(missing)}; see its output")


def programs(directory, names):
    """The directory of our programs `names`; builds the release preset's unless one is given."""
    if directory is None and names:
        directory = ROOT / "build" / "release" / "bin"
        print(f"building {', '.join(names)} (preset release)", file=sys.stderr, flush=True)
        for command in (["cmake", "--preset", "release"],
                        ["cmake", "--build", "--preset", "release", "--target", *names]):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise InstallError(f"'{' '.join(command)}' failed:\n"
                                   f"{(done.stdout + done.stderr)[-2000:]}")
    for name in names:
        if not (directory / name).is_file():
            raise InstallError(f"{directory / name} does not exist: build it, or leave out --bin, "
                               "or leave its series out with --only")
    return directory


def source_entries(text, one_line):
    """The apt sources file `text` with its binary entries turned into source entries."""
    if one_line:
        lines = [re.sub(r"^\s*deb\s", "deb-src ", line) for line in text.splitlines()]
        return "\n".join(line for line in lines if line.startswith("deb-src ")) + "\n"
    return re.sub(r"(?mi)^Types:.*$", "Types: deb-src", text)


def _source_options(work):
    """Options for apt-get: the machine's own mirrors, as sources, in a state directory of ours.

    Nothing of the machine's apt configuration or lists is changed.
    """
    parts = work / "sources.d"
    shutil.rmtree(parts, ignore_errors=True)
    for directory in (parts, work / "lists" / "partial", work / "cache" / "archives" / "partial"):
        directory.mkdir(parents=True, exist_ok=True)
    system = pathlib.Path("/etc/apt")
    for path in [system / "sources.list", *sorted((system / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        (parts / path.name).write_text(source_entries(path.read_text(), path.suffix == ".list"))
    return ["-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={parts}",
            "-o", f"Dir::State::lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}",
            "-o", "APT::Sandbox::User=root"]


def _build_fio(log):
    packages(FIO_PACKAGES)
    work = FIO_DIR / "source"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    options = _source_options(FIO_DIR / "apt")

    def step(command, directory):
        log.write("$ " + " ".join(map(str, command)) + "\n")
        log.flush()
        subprocess.run(command, cwd=directory, stdout=log, stderr=log, check=True)

    # An extra repository of the machine may have no sources; Debian's own has.
    subprocess.run(["apt-get", *options, "update"], stdout=log, stderr=log, check=False)
    step(["apt-get", *options, "source", "--only-source", "fio"], work)
    tree = next(path for path in work.iterdir() if path.is_dir())
    step(["./configure", "--enable-libiscsi", "--disable-native"], tree)
    step(["make", f"-j{os.cpu_count()}", "fio"], tree)
    shutil.copy2(tree / "fio", FIO_DIR / "fio")
    for leftover in (work, FIO_DIR / "apt"):
        shutil.rmtree(leftover)


def _has_engine(fio):
    if not fio.is_file():
        return False
    listing = subprocess.run([fio, "--enghelp"], capture_output=True, text=True, check=False)
    return "libiscsi" in listing.stdout


def fio():
    """The path of a fio with the libiscsi engine, built once into build/fio; None if that fails."""
    binary = FIO_DIR / "fio"
    if _has_engine(binary):
        return binary
    FIO_DIR.mkdir(parents=True, exist_ok=True)
    log_path = FIO_DIR / "build.log"
    print(f"building fio with its libiscsi engine into {FIO_DIR} (log: {log_path})", flush=True)
    try:
        with log_path.open("w") as log:
            _build_fio(log)
    except (InstallError, OSError, StopIteration, subprocess.CalledProcessError) as error:
        print(f"fio with libiscsi cannot be built: {error}; see {log_path}", flush=True)
        return None
    return binary if _has_engine(binary) else None
