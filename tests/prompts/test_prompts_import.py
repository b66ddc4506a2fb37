import subprocess
import sys

import sternpost.prompts


def test_public_names_are_sorted_and_there():
    names = sternpost.prompts.__all__
    assert names == sorted(names)
    assert all(hasattr(sternpost.prompts, name) for name in names)


def test_importing_the_room_loads_nothing_heavy():
    code = ("import sys, sternpost.prompts\n"
            "print([m for m in ('torch', 'pandas', 'pyarrow', 'numpy') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
