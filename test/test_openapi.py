# SPDX-License-Identifier: Apache-2.0
"""GET /openapi.json: valid, and true of the running server."""
import requests

import openapi


def test_the_document_is_valid(make_server):
    server = make_server()
    answers = [requests.get(url + "/openapi.json", timeout=10) for url in (server.url, server.operator_url)]
    assert answers[0].status_code == 200 and answers[0].headers["Content-Type"].startswith("application/json")
    assert answers[0].content == answers[1].content
    openapi.check_document(answers[0].json())
