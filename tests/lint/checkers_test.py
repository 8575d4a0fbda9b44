"""The checkers in scripts/ must refuse what they are there to refuse. Standard library only: runs from ctest."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import check_errors  # noqa: E402
import check_includes  # noqa: E402
import check_links  # noqa: E402
import check_sources  # noqa: E402
import count_results  # noqa: E402


class Tree(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)

    def write(self, name: str, text: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


class ErrorPage(Tree):
    SOURCE = """
throw Error(ErrorCode::kVramOom, "needs " + count(n) + " pages",
            {{"required", uint64_t{n}}, {"available", f(a, b)}}, "ask for less");
fail(Error(ErrorCode::kInternal, bad ? "it broke" : "it bent"));
throw Error(ErrorCode::kInternal, error.what());
"""

    def test_a_row_tells_message_values_and_hint(self):
        self.assertEqual(check_errors.errors_of(self.SOURCE), [
            ("VRAM_OOM", "needs ... pages", "required, available", "ask for less"), ("INTERNAL", "it broke / it bent", "", "")])

    def test_an_error_without_its_row_or_heading_is_found(self):
        self.write("src/x.cpp", self.SOURCE)
        wanted = check_errors.tables(self.root)
        page = "# Errors\n\n## VRAM_OOM (500)\nText.\n\n## INTERNAL (500)\nMore.\n"
        written, problems = check_errors.rewritten(page, wanted)
        self.assertEqual(problems, [])
        self.assertIn("Text.\n\n| message | values | hint |\n|---|---|---|\n| needs ... pages | required, available | ask for less |\n", written)
        self.assertEqual(check_errors.rewritten(written, wanted)[0], written)
        self.write("src/y.cpp", 'throw Error(ErrorCode::kInternal, "another");')
        self.assertNotEqual(check_errors.rewritten(written, check_errors.tables(self.root))[0], written)
        self.assertEqual(len(check_errors.rewritten("# Errors\n", wanted)[1]), 2)


class IncludeArrows(Tree):
    def problems_of(self, name: str, line: str) -> list[str]:
        for header in ("base/error.h", "model/spec.h", "engine/engine.h", "server/server.h", "device/device.h",
                       "device/cpu/arena.h", "device/cuda/arena.cuh"):
            self.write(f"src/{header}")
        self.write("include/orcd/orcd.h")
        self.write(name, line + "\n")
        return check_includes.check_tree(self.root)[1]

    def test_down_and_sideways_in_the_own_folder_is_allowed(self):
        for name, line in (("src/engine/x.cpp", '#include "model/spec.h"'), ("src/base/x.cpp", '#include "base/error.h"'),
                           ("src/device/cpu/x.cpp", '#include "device/device.h"'),
                           ("src/cli/x.cpp", '#include "server/server.h"'), ("src/device/x.cpp", '#include "device/cpu/arena.h"'),
                           ("src/capi/x.cpp", '#include "orcd/orcd.h"'), ("src/base/x.cpp", "#include <vector>"),
                           ("src/server/x.h", "#include <boost/asio.hpp>"), ("src/tokenizer/x.cpp", "#include <pcre2.h>")):
            with self.subTest(name=name, line=line):
                self.assertEqual(self.problems_of(name, line), [])
                (self.root / name).unlink()

    def test_up_across_and_leaking_is_refused_with_its_line(self):
        for name, line in (("src/base/x.cpp", '#include "model/spec.h"'), ("src/model/x.h", '#include "engine/engine.h"'),
                           ("src/engine/x.cpp", '#include "server/server.h"'), ("src/capi/x.cpp", '#include "server/server.h"'),
                           ("src/cli/x.h", '#include "server/server.h"'), ("src/device/x.h", '#include "device/cpu/arena.h"'),
                           ("src/device/cpu/x.cpp", '#include "device/cuda/arena.cuh"'),
                           ("src/device/cuda/x.cu", '# include "device/cpu/arena.h"'),
                           ("src/model/x.cpp", '#include "device/cpu/arena.h"'), ("src/base/x.cpp", '#include "error.h"'),
                           ("src/device/cpu/x.cpp", "#include <cuda_runtime.h>"), ("src/engine/x.cpp", "#include <boost/asio.hpp>"),
                           ("src/engine/x.h", "#include <nlohmann/json.hpp>"), ("src/numerics/x.h", "#include <immintrin.h>"),
                           ("include/orcd/x.h", '#include "base/error.h"'), ("src/new_folder/x.cpp", "")):
            with self.subTest(name=name, line=line):
                problems = self.problems_of(name, line)
                self.assertEqual(len(problems), 1, problems)
                self.assertTrue(problems[0].startswith(f"{name}:"), problems)
                (self.root / name).unlink()


class SourceRules(Tree):
    def problems_of(self, name: str, text: str) -> list[str]:
        return check_sources.check_file(self.root, self.write(name, text))

    def test_a_tidy_header_passes(self):
        self.assertEqual(self.problems_of("src/base/x.h", "// What it is for.\n#pragma once\n"), [])

    def test_each_rule_refuses(self):
        for name, text in (("src/base/x.cpp", "// TO" + "DO later\n"), ("docs/x.md", "see /wo" + "rk/main\n"),
                           ("src/base/x.h", "#pragma once\n"), ("src/base/x.h", "// Purpose.\nint a;\n"),
                           ("tests/unit/x.cpp", "GTEST" + "_SKIP();\n"), ("src/base/x.cpp", "int a;"),
                           ("src/base/x.cpp", "int a;\n\n")):
            with self.subTest(name=name, text=text):
                self.assertEqual(len(self.problems_of(name, text)), 1)


class Links(Tree):
    def problems_of(self, text: str) -> list[str]:
        page = self.write("docs/A.md", "# Title\n## A part, with `code`\n")
        names = ["docs/A.md", "src/base/error.h"]
        return [p for p in check_links.check_file(self.root, self.write("README.md", text), [*names, "README.md"])] + (
            [] if page.is_file() else ["lost"])

    def test_good_links_pass(self):
        self.assertEqual(self.problems_of("[a](docs/A.md) [b](docs/A.md#a-part-with-code) [c](https://x.y/z) `src/base/`\n"), [])
        self.assertEqual(self.problems_of("```\n[a](docs/none.md)\n```\n"), [])

    def test_dead_links_anchors_and_paths_are_refused(self):
        for text in ("[a](docs/none.md)", "[a](docs/A.md#none)", "[a](../outside.md)", "`src/none.cpp`"):
            with self.subTest(text=text):
                self.assertEqual(len(self.problems_of(text + "\n")), 1)


class Counting(Tree):
    def test_cases_programs_and_crashes_are_counted_once(self):
        self.write("gtest/unit_base.xml", '<testsuites><testsuite><testcase name="a" status="run"/><testcase name="b"><failure/>'
                   "</testcase></testsuite></testsuites>")
        self.write("gtest/unit_kv.xml", '<testsuites><testcase name="a" status="run"/></testsuites>')
        self.write("ctest.xml", '<testsuite><testcase name="unit_base" status="fail"/><testcase name="unit_kv" status="fail"/>'
                   '<testcase name="include_arrows" status="run"/><testcase name="unit_gguf" status="fail"/></testsuite>')
        self.write("pytest.xml", '<testsuites><testsuite><testcase name="p"/><testcase name="q"><skipped/></testcase>'
                   "</testsuite></testsuites>")
        # passed: base a, kv a, arrows, p; failed: base b, kv died at its end, gguf died before its report
        self.assertEqual(count_results.count(self.root), (4, 3))

    def test_a_step_that_failed_without_a_report_is_a_failure(self):
        script = Path(count_results.__file__)
        run = subprocess.run([sys.executable, str(script), str(self.root), "1"], capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stdout.splitlines()[-1]), (1, "0 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
