"""Typed settings: load, merge, validate, hash."""

from fashionrec.settings.load import SettingsError, load_settings, resource, settings_hash, shown_settings, without_passwords
from fashionrec.settings.model import Settings

__all__ = ["Settings", "SettingsError", "load_settings", "resource", "settings_hash", "shown_settings", "without_passwords"]
