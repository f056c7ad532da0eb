"""Inputs at the edge, and rules that no schema can state. Everything else passes without this."""

from urllib.parse import quote

import schemathesis

TYPE = "COLLECT_HDA_LOG,"

# By parameter: what is taken, what is refused. A list is a parameter given more than once.
EDGES = {
    "project_id": (
        ["...", "+", "%", "%2F", "a?b#c", "\ufeff", "é" * 128],
        ["a b", "a\tb", "a/b", "/", "a\\b", ".", "..", "\0", "\x85", "\xa0", "\u3000", "é" * 129],
    ),
    "status": (
        ["", "WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"],
        ["running", " RUNNING", "RUNNING ", "RUNNING\n", "RUNNING,FAILED", "CANCELLED", ["RUNNING", "RUNNING"], ["", ""]],
    ),
    "job_type": (
        ["", "REJOIN_DOMAIN", TYPE + TYPE + "CREATE_SERVER", TYPE * 14 + "CREATE_SERVER_IMAGE,REINSTALL_OS"],
        [
            *["create_server", " CREATE_SERVER", TYPE + " CREATE_SERVER", TYPE, "," + TYPE + "CREATE_SERVER", ","],
            *[TYPE + ",CREATE_SERVER", "CREATE_SERVER;DELETE_SERVER", "NO_SUCH_TYPE", TYPE + "NO_SUCH_TYPE"],
            *[TYPE * 15 + "BATCH_INSTALL_APP", ["CREATE_SERVER", "DELETE_SERVER"], ["", "CREATE_SERVER"]],
        ],
    ),
    "job_id": (["", " ", "/", "..", "+", "%", "\xa0", "é" * 128], ["\0", "\n", "\x7f", "\x85", "é" * 129, ["a", "b"]]),
    "no_such_parameter": (["", "1", ["1", "2"]], []),
}


@schemathesis.hook
def before_add_examples(context, examples):
    """One request for each edge, marked by its X-Request-Id; and a token that is not ASCII."""
    project = context.operation.schema.config.parameters.get("path.project_id")

    def add(headers, project_id="no-such-project", query=None):
        # A bare dot segment would be resolved before it is sent.
        path = {"project_id": project or quote(project_id, safe="").replace(".", "%2E")}
        examples.append(context.operation.Case(path_parameters=path, query=query or {}, headers=headers))

    for name, sides in EDGES.items():
        for side, values in zip(("taken", "refused"), sides):
            for value in values:
                headers = {"X-Request-Id": f"edge-{side}"}
                if name != "project_id":
                    add(headers, query={name: value})
                elif not project:
                    add(headers, project_id=value)
    add({"X-Auth-Token": "\xe9"})


@schemathesis.check
def edges_hold(ctx, response, case):
    """What is taken or refused at the edge gets the status of valid or of invalid input."""
    side = case.headers.get("X-Request-Id")
    if side in ("edge-taken", "edge-refused"):
        rule = ctx.config.positive_data_acceptance if side == "edge-taken" else ctx.config.negative_data_rejection
        if str(response.status_code) not in rule.expected_statuses:
            raise AssertionError(f"{side}: {response.status_code} for {response.request.url}")


@schemathesis.check
def other_methods_refused(ctx, response, case):
    """Without a credential, and for a project that does not exist, too."""
    method = response.request.method
    if method not in ("GET", "HEAD") and response.status_code != 405:
        raise AssertionError(f"{method}: {response.status_code}")


@schemathesis.check
def request_id_sent_back(ctx, response, case):
    """A good X-Request-Id comes back as it is."""
    sent = response.request.headers.get("X-Request-Id", "")
    sent = sent.decode("latin-1") if isinstance(sent, bytes) else sent
    good = 1 <= len(sent) <= 128 and all("!" <= character <= "~" for character in sent)
    back = response.headers.get("x-request-id")
    if good and back != [sent]:
        raise AssertionError(f"X-Request-Id {sent!r} came back as {back!r}")
