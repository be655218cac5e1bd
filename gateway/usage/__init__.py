"""Reading usage, shared by both planes: extraction rules, SSE reader, estimates. Filled by the Metering issue."""
