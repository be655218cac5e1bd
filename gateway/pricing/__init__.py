"""Prices in integer nano-dollars: tables that come with the gateway, those of the settings, and the book of both."""
