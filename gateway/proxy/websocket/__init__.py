"""WebSockets: `/realtime`, `/responses`, `/live/sessions` and any other upgrade."""
