"""OpenAI's organization API, a file per noun. Filled by the Control plane issue."""
