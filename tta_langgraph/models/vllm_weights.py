"""What vLLM is given to load: hub names and folders as they are, packaged weights and GGUF files converted."""

from __future__ import annotations

from pathlib import Path

from tta_langgraph.errors import ModelError
from tta_langgraph.models.convert import convert_gguf
from tta_langgraph.models.weights import ensure_weights
from tta_langgraph.models.weights_catalog import WEIGHTS

__all__ = ["resolve_weights"]


def resolve_weights(model: str, *, cpu: bool) -> str:
    """Folder or hub name that vLLM loads.

    Args:
        model: hub name, folder, `.gguf` file, or a name in `WEIGHTS` (fetched from the index, then converted).
        cpu: whether half precision is best avoided.

    Raises:
        ModelError: a path that does not exist, or weights that cannot be fetched or converted.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if path.suffix == ".gguf" and not path.is_file():
        raise ModelError("there is no such file", where=str(path), remedy="Give the path of a GGUF file or a folder")
    if path.suffix == ".gguf" or model in WEIGHTS:
        source = path if path.suffix == ".gguf" else ensure_weights(model)
        return str(convert_gguf(source, dtype="float32" if cpu else "float16"))
    if model.startswith(("/", "./", "../", "~")):
        raise ModelError("there is no such folder", where=str(path), remedy="Give a folder of weights or a hub name")
    return model
