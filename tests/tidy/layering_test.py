"""Includes follow the arrows of docs/architecture.md; the product does nothing behind its loop."""

import fnmatch
import re
import unittest

import tree

# Who may include whom. The longest prefix of a file's path counts.
ALLOWED = {
    "common/base": ["common/base"],
    "common/scsi": ["common/base", "common/scsi"],
    "common/iscsi": ["common/base", "common/iscsi"],
    "common/io": ["common/base", "common/io"],
    "common/daemon": ["common/base", "common/io", "common/daemon"],
    "target": ["common", "target"],
    "initiator": ["common", "initiator"],
    "mpio": ["common", "initiator", "mpio"],
    "common/rpc": ["common/base", "common/io", "common/rpc"],
    "qdisk": ["common", "qdisk"],
    "cluster": ["common", "cluster", "target/cli", "initiator/cli", "mpio/cli", "qdisk/cli"],
    "bench": ["common", "initiator", "mpio", "bench"],
    "tests": ["common", "target", "initiator", "mpio", "qdisk", "cluster", "bench",
              "tests"],
}

# Files that may include more than their folder: (pattern, what).
ALLOWED_FILES = [("qdisk/config*", "mpio"), ("qdisk/main.cc", "mpio")]

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)

# What only the loop and the threads at the edge may do: (pattern, why, files that may).
EDGE = ["common/io/*", "common/daemon/edge_thread*", "common/daemon/stream_server*",
        "common/daemon/signal_watch*", "common/daemon/control_client*", "target/control_*",
        "target/metrics*", "target/state_store*", "qdisk/fence_agent.*", "*/main.cc"]
BANNED = [
    (r"std::chrono::\w*clock\s*::\s*now", "time comes from Loop::now()", ["common/io/*"]),
    (r"(?<![\w.:>])(?:std::)?time\s*\(", "time comes from Loop::now()", []),
    (r"\b(?:gettimeofday|clock_gettime)\s*\(", "time comes from Loop::now()",
     # What is shared with a process that has no loop.
     ["common/io/*", "common/base/log.cc", "qdisk/lab_watchdog_file.cc"]),
    (r"(?<![\w.:>])(?:std::)?s?rand\s*\(|\bsrandom\s*\(", "numbers come from base::Random", []),
    (r"std::random_device|std::mt19937", "numbers come from base::Random", []),
    (r"(?<![\w.:>])u?sleep\s*\(|\bnanosleep\s*\(|sleep_(?:for|until)", "a loop never sleeps",
     EDGE),
    (r"std::j?thread\b|\bpthread_create\b", "threads exist at the edge only", EDGE),
    (r"\bMutex(?:Lock)?\b|\bCondition\b", "no lock on the I/O path", EDGE),
    (r"std::(?:recursive_|shared_)?mutex\b|std::condition_variable",
     "a lock is an io::Mutex, which clang's analysis can check", ["common/io/mutex.h"]),
    (r"std::(?:quick_|_E)?[eE]xit\b|std::abort\b|(?<![\w.>])_?exit\s*\(",
     "only main.cc, ASSERT, the watch over its end and a child of ours end the process",
     ["*/main.cc", "common/daemon/signal_watch.cc", "common/base/assert.cc",
      "common/base/assert.h", "qdisk/guarded_call.cc"]),
    (r"reinterpret_cast<\s*(?:const\s+)?\w*(?:Bhs|Header|Pdu)\w*\s*\*", "input is copied, not cast",
     []),
]


def folder_rule(path):
    name = path.as_posix()
    matches = [prefix for prefix in ALLOWED if name.startswith(prefix + "/")]
    return ALLOWED[max(matches, key=len)] if matches else None


class Layering(unittest.TestCase):
    def test_every_folder_with_code_has_a_rule(self):
        tree.fail_with(self, [f"{path}: its folder has no line in ALLOWED" for path in tree.code()
                              if folder_rule(path) is None])

    def test_includes_follow_the_arrows(self):
        problems = []
        for path in tree.code():
            allowed = (folder_rule(path) or []) + [
                more for pattern, more in ALLOWED_FILES
                if fnmatch.fnmatch(path.as_posix(), pattern)]
            for included in INCLUDE.findall(tree.text(path)):
                if not any(included.startswith((prefix + "/", prefix + ".")) for prefix in allowed):
                    problems.append(f"{path} may not include {included}")
        tree.fail_with(self, problems)

    def test_included_files_exist(self):
        problems = []
        for path in tree.code():
            for included in INCLUDE.findall(tree.text(path)):
                generated = included.endswith((".pb.h", "version.h"))
                if not generated and not (tree.ROOT / included).exists():
                    problems.append(f"{path} includes {included}, which is not there "
                                    "(includes begin at the root)")
        tree.fail_with(self, problems)


class Banned(unittest.TestCase):
    def test_product_uses_the_seams(self):
        problems = []
        for path in tree.code(*tree.PRODUCT):
            source = tree.without_comments(tree.text(path))
            for pattern, why, allowed in BANNED:
                if any(fnmatch.fnmatch(path.as_posix(), each) for each in allowed):
                    continue
                problems += [f"{path}:{line}: {why}" for line in tree.find(pattern, source)]
        tree.fail_with(self, problems)

    def test_every_mutex_says_what_it_guards(self):
        problems = []
        for path in tree.code(*tree.PRODUCT):
            source = tree.without_comments(tree.text(path))
            problems += [f"{path}: nothing is HOLDFAST_GUARDED_BY({name})"
                         for name in re.findall(r"\bMutex (\w+);", source)
                         if f"HOLDFAST_GUARDED_BY({name})" not in source]
        tree.fail_with(self, problems)

    def test_no_exceptions_in_product_code(self):
        # `try` and `throw` belong to the files that wrap a library; CMake names them.
        wrapped = "".join(tree.text(path) for path in tree.files() if path.name == "CMakeLists.txt")
        problems = []
        for path in tree.code("common", "target", "initiator", "mpio"):
            source = tree.without_comments(tree.text(path))
            if re.search(r"\bthrow\b|\btry\s*\{|\bcatch\s*\(", source) and \
                    path.name not in wrapped:
                problems.append(f"{path}: exceptions, and no CMakeLists.txt names it as a wrapper")
        tree.fail_with(self, problems)


if __name__ == "__main__":
    unittest.main()
