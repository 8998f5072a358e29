"""Servers with OpenAI's interface that write as policies: allowed addresses, requests, and the samples of a round."""
