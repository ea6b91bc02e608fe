"""The host's folders: there is no file in any of them."""

import atexit
import shutil
import tempfile

models_dir = tempfile.mkdtemp()
atexit.register(shutil.rmtree, models_dir, ignore_errors=True)


def get_filename_list(folder: str) -> list[str]:
    """Files of a model folder."""
    return []


def get_output_directory() -> str:
    """Where nodes save."""
    return models_dir


get_input_directory = get_temp_directory = get_output_directory
