"""Every source file has a test, and every test file is run."""

import fnmatch
import re
import unittest

import tree

LIST = "tests/tidy/untested.txt"


def listed() -> dict:
    """{path: reason} of the files that no unit test includes."""
    found = {}
    for line in tree.text(LIST).splitlines():
        if line.strip() and not line.startswith("#"):
            path, _, reason = line.partition(":")
            found[path.strip()] = reason.strip()
    return found


class Coverage(unittest.TestCase):
    def test_every_source_file_is_tested(self):
        included = set()
        names = set()
        for path in tree.code("tests"):
            included.update(re.findall(r'#\s*include\s+"([^"]+)"', tree.text(path)))
            names.add(path.as_posix())
        reasons = listed()
        used = set()
        problems = []
        for path in tree.code(*tree.PRODUCT):
            if path.suffix != ".cc":
                continue
            folder = path.parent.as_posix().removeprefix("common/")
            # config_reader.cc is a part of what config.h offers.
            words = path.stem.split("_")
            headers = {(path.parent / ("_".join(words[:count]) + ".h")).as_posix()
                       for count in range(1, len(words) + 1)}
            tested = headers & included or f"tests/unit/{folder}/{path.stem}_test.cc" in names
            matches = [each for each in reasons if fnmatch.fnmatch(path.as_posix(), each)]
            if not tested:
                used.update(matches)
                if not any(reasons[each] for each in matches):
                    problems.append(f"{path}: no test includes its header, and {LIST} has no "
                                    "reason")
        problems += [f"{LIST}: {each}: has a test now, or is gone: take it off the list"
                     for each in reasons if each not in used]
        tree.fail_with(self, problems)

    def test_every_test_file_is_run(self):
        problems = []
        for path in tree.files("tests"):
            if not re.search(r"_test\.(cc|py)$", path.name):
                continue
            # By its name, or by the glob of its folder.
            text = "".join(tree.text(each) for each in tree.files()
                           if each.name == "CMakeLists.txt" or each.suffix == ".cmake")
            own = path.parent / "CMakeLists.txt"
            own = tree.text(own) if (tree.ROOT / own).exists() else ""
            globbed = f"*_test{path.suffix}" in own or \
                f'{path.parent.as_posix()}\n    -p "*_test{path.suffix}"' in text
            unit = path.parts[1] == "unit" and re.search(
                rf"holdfast_unit_tests\({path.parts[2]}\b", text)
            if not (globbed or unit or path.name in text):
                problems.append(f"{path}: no CMakeLists.txt runs it")
        tree.fail_with(self, problems)


if __name__ == "__main__":
    unittest.main()
