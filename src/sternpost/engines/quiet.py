"""Other libraries' chatter off, so that a person sees what this command says."""

import logging


def quiet_libraries() -> None:
    """No bars and no advice from transformers; its errors still come through as exceptions."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
