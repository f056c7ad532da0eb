"""What the document leaves open, closed for the demo server, and rules that a schema cannot state."""

from urllib.parse import parse_qsl, urlsplit

import schemathesis


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Valid input is what every server takes: known job types only, and no example project."""
    for path in raw_schema["paths"].values():
        for parameter in path["get"]["parameters"]:
            if parameter["in"] == "path":
                parameter.pop("example", None)
            if known := parameter["schema"].pop("x-extensible-enum", None):
                name = f"({'|'.join(known)})"
                parameter["schema"]["pattern"] = f"^({name}(,{name})*)?$"


@schemathesis.check
def other_methods_refused(ctx, response, case):
    """Without a credential, and for a project that does not exist, too."""
    method = response.request.method
    if method not in ("GET", "HEAD") and response.status_code != 405:
        raise AssertionError(f"{method}: {response.status_code}")


@schemathesis.check
def filters_given_once(ctx, response, case):
    """A filter that stands twice is refused, even if both values are good."""
    given = [name for name, _ in parse_qsl(urlsplit(response.request.url).query, keep_blank_values=True)]
    twice = {parameter.name for parameter in case.operation.query if given.count(parameter.name) > 1}
    refused = {int(status) for status in ctx.config.negative_data_rejection.expected_statuses}
    if twice and response.status_code not in refused:
        raise AssertionError(f"{', '.join(sorted(twice))} given twice: {response.status_code}")


@schemathesis.check
def request_id_sent_back(ctx, response, case):
    """A good X-Request-Id comes back as it is."""
    sent = response.request.headers.get("X-Request-Id", "")
    sent = sent.decode("latin-1") if isinstance(sent, bytes) else sent
    good = 1 <= len(sent) <= 128 and all("!" <= character <= "~" for character in sent)
    back = response.headers.get("x-request-id")
    if good and back != [sent]:
        raise AssertionError(f"X-Request-Id {sent!r} came back as {back!r}")
