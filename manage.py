#!/usr/bin/env python
"""Django's command-line utility."""

import os
import sys

from django.core.management import execute_from_command_line

from primitives.pipes import end_with_reader

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    with end_with_reader():
        execute_from_command_line(sys.argv)
