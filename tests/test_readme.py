"""What the README says of paths and settings is so."""

import re
from pathlib import Path

from foretaste.settings import load
from foretaste.steps.train import check

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_path_it_names_is_there() -> None:
    paths = set(re.findall(r"\b(?:jobs|conf|docs|lib|tests)/[\w/.-]+\.(?:py|yaml|md|conf)\b", README))
    assert paths
    assert {path for path in paths if not (ROOT / path).is_file() and path != "conf/shop.yaml"} == set()


def test_every_setting_it_sets_exists() -> None:
    overrides = [text for text in re.findall(r"--set ([a-z_.]+=[^\s`]+)", README) if text != "key.sub=value"]
    assert overrides
    load(ROOT / "conf" / "demo.yaml", overrides)


def test_its_own_data_example_is_a_valid_deployment(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n# conf/shop\.yaml\n(.*?)```", README, re.S)
    assert block
    file = tmp_path / "shop.yaml"
    file.write_text(block[1], encoding="utf-8")
    assert load(file).source.columns is not None


def test_its_example_of_a_model_can_be_trained(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(tasks:\n.*?)```", README, re.S)
    assert block
    file = tmp_path / "model.yaml"
    file.write_text(block[1], encoding="utf-8")
    check("interest", load(file).tasks["interest"])
