"""A script with a token, as a client of the API."""

import json

from django.test import Client

API = "/api/v1/projects/"


class Caller:
    """A script with a token."""

    def __init__(self, token):
        self.client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {token}"})

    def get(self, path="", **query):
        return self.client.get(f"{API}{path}", query)

    def post(self, path, body=None):
        return self.client.post(f"{API}{path}", json.dumps(body or {}), content_type="application/json")
