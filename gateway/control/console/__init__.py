"""The web page. Filled by the Operations issue."""
