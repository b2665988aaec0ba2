import re

from conftest import ROOT


def test_the_example_of_the_readme_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(example, {})
    assert "dropout" in capsys.readouterr().out


def test_the_readme_names_only_commands_and_files_that_exist():
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"^make (\w+)", text, re.M)) <= targets
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link).is_file()
