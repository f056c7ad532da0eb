"""Asks the server for a count as an OpenStack client does: keystoneauth1, with a password, through a session.

    python tests/keystone/client.py AUTH_URL USER_ID PASSWORD PROJECT_ID ENDPOINT [QUERY]

ENDPOINT is the server's URL without a path; QUERY is like status=RUNNING. Prints {"status": …, "body": …}.
"""

import json
import sys

from keystoneauth1 import session
from keystoneauth1.identity import v3

auth_url, user, password, project, endpoint, *query = sys.argv[1:]
auth = v3.Password(auth_url=auth_url, user_id=user, password=password, project_id=project)
response = session.Session(auth=auth).get(
    "?".join([f"/v1/{project}/app-server-sub-jobs/actions/count", *query]),
    endpoint_override=endpoint,
    raise_exc=False,
)
print(json.dumps({"status": response.status_code, "body": response.json()}))
