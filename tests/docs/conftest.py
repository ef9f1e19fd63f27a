"""The documented examples as modules, and the real data that they are about, where it lies beside the project."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest) -> ModuleType:
    """The example that a test module is named after."""
    name = request.path.stem.removeprefix("test_")
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "docs" / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(example: ModuleType) -> Path:
    """The folder of the real data, which is nobody's here to hand on: where it is absent nothing of it is tested."""
    for root in (None, REPOSITORY.parent / "shared" / "data"):
        try:
            return example.data_root(root)
        except LookupError as error:
            missing = error
    pytest.skip(f"real photographs and stories are no part of the project, and there are none beside it: {missing}")
