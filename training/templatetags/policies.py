"""Filters that ask what a project's policies can do."""

from django import template

from training.usage.naming import has_trainable, has_writer

register = template.Library()
register.filter("has_trainable", has_trainable)
register.filter("has_writer", has_writer)
