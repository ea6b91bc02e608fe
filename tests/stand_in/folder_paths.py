"""The host's folders, all empty."""

import atexit
import shutil
import tempfile

models_dir = tempfile.mkdtemp()
atexit.register(shutil.rmtree, models_dir, ignore_errors=True)


def get_filename_list(folder: str) -> list[str]:
    """Files of a model folder."""
    return []


def get_output_directory() -> str:
    """The folder for saved files."""
    return models_dir


get_input_directory = get_temp_directory = get_output_directory
