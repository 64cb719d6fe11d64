"""Run by the training faults as a program of its own, so that it can be killed.

``killed_registry_setup.py FOLDER`` reads lines "NAME TOUCH": asks MLflow for the champion of the home FOLDER/NAME in a
child of its own, killed with SIGKILL before its TOUCH-th touch of a file below that home or of MLflow's database (0:
not at all); answers "killed" or "done TOUCHES".
"""

import sys
from pathlib import Path

from configs.settings import load_settings
from tests.faults.killed_training import answer_in_children
from training.registry import version_of


def main(folder):
    def open_registry(name):
        assert version_of(load_settings(home=folder / name), "champion") is None

    answer_in_children(lambda name: folder / name, open_registry)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
